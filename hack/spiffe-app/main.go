// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command spiffe-app is a server and a client that get who they are from the SPIFFE Workload API, by the library that programs use for
// it, and talk mutual TLS. The end-to-end tests run it. Its client counts what it sees.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const usage = `usage:
  spiffe-app server --peer SPIFFE-ID [--listen :8443]
  spiffe-app client --peer SPIFFE-ID --address HOST:PORT [--interval 200ms]
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "spiffe-app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	peer := flags.String("peer", "", "SPIFFE ID of the other side")
	listen := flags.String("listen", ":8443", "address to serve on (server)")
	address := flags.String("address", "", "server to call (client)")
	interval := flags.Duration("interval", 200*time.Millisecond, "time between connections (client)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	id, err := spiffeid.FromString(*peer)
	if err != nil {
		return fmt.Errorf("--peer: %w\n%s", err, usage)
	}
	// The socket is where SPIFFE_ENDPOINT_SOCKET says.
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return fmt.Errorf("asking the Workload API: %w", err)
	}
	defer source.Close()
	switch args[0] {
	case "server":
		return serve(ctx, *listen, tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(id)))
	case "client":
		return call(ctx, *address, *interval, source, id)
	}
	return fmt.Errorf("unknown command %q\n%s", args[0], usage)
}

// serve says one line to each client that may speak to it.
func serve(ctx context.Context, address string, config *tls.Config) error {
	listener, err := tls.Listen("tcp", address, config)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			_ = connection.SetDeadline(time.Now().Add(5 * time.Second))
			fmt.Fprintln(connection, "hello") // a client that fails says so itself
		}()
	}
}

// tally is what the client prints every second.
type tally struct {
	Made         int    `json:"made"`
	Failed       int    `json:"failed"`
	LastFailure  string `json:"lastFailure,omitempty"`
	ID           string `json:"id"`
	Peer         string `json:"peer"`
	Certificates int    `json:"certificates"` // how many it had itself
	Servers      int    `json:"serverCertificates"`
}

// call makes a new connection at every interval. Before the first one the server may not be there yet.
func call(ctx context.Context, address string, interval time.Duration, source *workloadapi.X509Source, peer spiffeid.ID) error {
	var t tally
	own, met := map[string]bool{}, map[string]bool{}
	ticker, report := time.NewTicker(interval), time.NewTicker(time.Second)
	defer ticker.Stop()
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
			svid, err := source.GetX509SVID()
			if err != nil {
				return err
			}
			own[svid.Certificates[0].SerialNumber.String()] = true
			t.ID, t.Peer, t.Certificates, t.Servers = svid.ID.String(), peer.String(), len(own), len(met)
			if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
				return err
			}
		case <-ticker.C:
			serial, err := once(ctx, address, source, peer)
			if err == nil {
				met[serial] = true
				t.Made++
			} else if t.LastFailure = err.Error(); t.Made > 0 {
				t.Failed++
			}
		}
	}
}

// once makes one connection and returns the serial number of the server's certificate.
func once(ctx context.Context, address string, source *workloadapi.X509Source, peer spiffeid.ID) (serial string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(peer))}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := bufio.NewReader(connection).ReadString('\n'); err != nil {
		return "", err
	}
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}
