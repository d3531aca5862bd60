// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// handshakeLimit is how long one connection may take, on a busy machine too.
const handshakeLimit = 10 * time.Second

// fleet is what a member of a fleet prints every second. A fleet's members are behind one headless Service: each serves the
// others and calls all of them, one after the other, with a new connection each time.
type fleet struct {
	Attempted int      `json:"attempted"`
	Failed    int      `json:"failed"`
	Failures  []string `json:"failures,omitempty"` // the first few
	Peers     int      `json:"peers"`              // how many members it has reached
	Met       int      `json:"met"`                // how many certificates of them it has met
	Own       seen     `json:"own"`
	Anchors   []string `json:"anchors"` // SHA-256 of each certificate that it verifies with
}

// beOfFleet serves and calls until ctx ends.
func beOfFleet(ctx context.Context, address, service string, interval time.Duration, id identity) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return answerFleet(ctx, address, id) })
	group.Go(func() error { return callFleet(ctx, address, service, interval, id) })
	return group.Wait()
}

// answerFleet says one word to each client that proves who it is. It reads its certificate and its bundle for each.
func answerFleet(ctx context.Context, address string, id identity) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		connection, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			_ = connection.SetDeadline(time.Now().Add(handshakeLimit))
			config, err := id.serving()
			if err != nil {
				fmt.Fprintln(os.Stderr, "serving:", err)
				_ = connection.Close()
				return
			}
			secured := tls.Server(connection, config)
			defer secured.Close()
			_, _ = io.WriteString(secured, "hello\n") // a client that fails says so itself
		}()
	}
}

// callFleet makes a new connection to the next member at every interval. Before a member has answered once it may not be there yet.
func callFleet(ctx context.Context, address, service string, interval time.Duration, id identity) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	var f fleet
	reached, met := map[string]bool{}, map[string]bool{}
	var members []string
	ticker, report := time.NewTicker(interval), time.NewTicker(time.Second)
	defer ticker.Stop()
	defer report.Stop()
	for turn := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
			if now, err := net.DefaultResolver.LookupHost(ctx, service); err == nil {
				members = now // else those that were there a second ago
			}
			f.Peers, f.Met = len(reached), len(met)
			if err := f.print(id); err != nil {
				return err
			}
		case <-ticker.C:
			if len(members) == 0 {
				continue
			}
			turn++
			member := members[turn%len(members)]
			serial, err := shake(ctx, net.JoinHostPort(member, port), service, id)
			switch {
			case err == nil:
				reached[member], met[serial] = true, true
				f.Attempted++
			case reached[member] && ctx.Err() == nil:
				f.Attempted++
				f.Failed++
				if len(f.Failures) < 5 {
					f.Failures = append(f.Failures, time.Now().UTC().Format(time.RFC3339)+" "+member+": "+err.Error())
				}
			}
		}
	}
}

// shake makes one connection, waits for the word by which the server says that it is content too, and returns the serial number of
// the server's certificate.
func shake(ctx context.Context, address, name string, id identity) (serial string, err error) {
	roots, err := id.roots()
	if err != nil {
		return "", err
	}
	pair, err := id.pair()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{*pair}}}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(handshakeLimit))
	word, err := io.ReadAll(io.LimitReader(connection, 64))
	if err != nil {
		return "", err
	}
	if string(word) != "hello\n" {
		return "", fmt.Errorf("the server said %q", word)
	}
	leaf := connection.(*tls.Conn).ConnectionState().PeerCertificates[0]
	return leaf.SerialNumber.Text(16), nil
}

// print prints what the member has seen, and who it is now.
func (f *fleet) print(id identity) error {
	pair, err := id.pair()
	if err != nil {
		return err
	}
	f.Own = see(pair.Leaf)
	if f.Anchors, err = id.fingerprints(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}
