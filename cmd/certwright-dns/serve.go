// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/contract"
)

const (
	defaultSocket = "/run/certwright/dns.sock"
	// timeout of one request. The signer's own is shorter.
	timeout = time.Minute
)

func newServe(getenv func(string) string) *cobra.Command {
	var socket string
	var zones, delegated []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the DNS webhook's contract on a Unix socket",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := provider.ParseNames(zones, delegated)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			p := &providers{names: names, getenv: getenv, ctx: cmd.Context()}
			return serve(cmd.Context(), socket, contract.Handler(p.open, "", func(path string, r contract.Request, err error) {
				log.Error("not done", "request", path, "provider", r.Config["provider"], "zone", r.Zone, "name", r.Name, "error", err)
			}), log)
		},
	}
	cmd.Flags().StringVar(&socket, "listen", defaultSocket, "the Unix socket to serve on; only this user can connect to it")
	cmd.Flags().StringSliceVar(&zones, "zones", nil, "zones in which names that begin with _acme-challenge may be written")
	cmd.Flags().StringSliceVar(&delegated, "delegated-zones", nil, "zones that serve nothing but challenges, in which any name may be written")
	return cmd
}

// serve serves on a Unix socket that only this user can connect to, until the context ends.
func serve(ctx context.Context, socket string, handler http.Handler, log *slog.Logger) error {
	// What a former process left behind is in the way.
	if info, err := os.Lstat(socket); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(socket); err != nil {
			return fmt.Errorf("removing the socket of a former process: %w", err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listening on --listen: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: timeout, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	log.Info("serving", "socket", socket)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}
