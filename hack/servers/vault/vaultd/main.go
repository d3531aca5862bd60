// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command vaultd is a Vault server for tests: the real core and engines of Vault 1.13, its last release that can be used as a
// Go module, in one program without configuration. It initializes and unseals itself, has a root token that is known
// beforehand, and serves HTTPS with a certificate of its own CA, which is what everybody who knows that token may see: it is
// for tests only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8200", "`address` to serve HTTPS on")
	flag.StringVar(&o.standby, "standby", "", "`address` of a second node, a standby that redirects to the first")
	flag.StringVar(&o.dir, "dir", "", "`folder` for the CA of the server's certificate, ca.crt and ca.key, which is made if it is not there (default: one that is not kept)")
	flag.BoolVar(&o.persistent, "persistent", false, "keep the storage and unseal.key in the folder, too, so that a restart finds them again")
	flag.StringVar(&o.certFile, "tls-cert", "", "`file` with the server's certificate, if none is to be made")
	flag.StringVar(&o.keyFile, "tls-key", "", "`file` with the key of -tls-cert")
	flag.BoolVar(&o.sealed, "sealed", false, "stay sealed until somebody unseals through the API")
	flag.StringVar(&o.rootToken, "root-token", "root", "the root `token`")
	hosts := flag.String("hosts", "localhost,127.0.0.1", "comma-separated `names` and addresses for the server's certificate")
	flag.StringVar(&o.logLevel, "log-level", "warn", "`level` of Vault's log on standard error")
	flag.Parse()
	o.hosts = strings.Split(*hosts, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err) //nolint:gocritic // there is nothing left to clean up
	}
}

type options struct {
	listen, standby, dir, rootToken, logLevel string
	certFile, keyFile                         string
	hosts                                     []string
	persistent, sealed                        bool
}

// file returns the path of a file in the folder, or "" if nothing is kept.
func (o options) file(name string) string {
	if o.dir == "" {
		return ""
	}
	return filepath.Join(o.dir, name)
}

func run(ctx context.Context, o options) error {
	if o.persistent && o.dir == "" {
		return errors.New("-persistent needs -dir")
	}
	if o.dir != "" {
		if err := os.MkdirAll(o.dir, 0o700); err != nil {
			return fmt.Errorf("making the folder: %w", err)
		}
	}
	config, caPEM, err := serverTLS(o)
	if err != nil {
		return err
	}
	nodes, key, err := newNodes(ctx, o)
	if err != nil {
		return err
	}
	failed := make(chan error, len(nodes))
	for _, n := range nodes {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.address)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		s := &http.Server{Handler: n.handler, TLSConfig: config.Clone(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(os.Stderr, "", 0)}
		go func() { failed <- s.ServeTLS(l, "", "") }()
	}
	fmt.Printf("%sunseal key: %s\nready: https://%s\n", caPEM, key, o.listen)
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		return nil
	}
}
