// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/certwright/certwright/webhook/gate"
	"github.com/certwright/certwright/webhook/servingcert"
)

const (
	// shutdownTimeout bounds the wait for requests that are under way when the listener stops.
	shutdownTimeout = 20 * time.Second
	// dialTimeout bounds the check that the listener answers.
	dialTimeout = 5 * time.Second
)

// listener is controller-runtime's server for webhooks, but for how it listens: the gate bounds the connections, and what
// their headers take, which that server leaves without a bound.
type listener struct {
	ctrlwebhook.Server // where handlers are registered

	address string
	tls     *tls.Config
	gate    *gate.Gate
	started atomic.Bool
}

func newListener(opts Options, g *gate.Gate, keeper *servingcert.Keeper) *listener {
	return &listener{
		Server:  ctrlwebhook.NewServer(ctrlwebhook.Options{WebhookMux: http.NewServeMux()}),
		address: net.JoinHostPort(opts.Host, strconv.Itoa(cmp.Or(opts.Port, DefaultPort))),
		tls: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: keeper.GetCertificate,
			// What API servers speak to webhooks, and what the gate can end in good order.
			NextProtos: []string{"http/1.1"},
		},
		gate: g,
	}
}

// Start serves until the context ends, and then what is under way.
func (l *listener) Start(ctx context.Context) error {
	listening, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.address)
	if err != nil {
		return fmt.Errorf("listening for admission requests: %w", err)
	}
	server := &http.Server{ //nolint:gosec // Guard sets ReadHeaderTimeout
		Handler: l.WebhookMux(), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	listening = tls.NewListener(l.gate.Guard(server, listening), l.tls)
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		stopped <- server.Shutdown(ending)
	})()
	l.started.Store(true)
	if err := server.Serve(listening); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving admission requests: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("ending the admission requests that are under way: %w", err)
	}
	return nil
}

// StartedChecker returns a check that the listener answers.
func (l *listener) StartedChecker() healthz.Checker {
	return func(r *http.Request) error {
		if !l.started.Load() {
			return errors.New("not listening for admission requests yet")
		}
		dialer := tls.Dialer{
			NetDialer: &net.Dialer{Timeout: dialTimeout},
			Config:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nothing is sent
		}
		conn, err := dialer.DialContext(r.Context(), "tcp", l.address)
		if err != nil {
			return fmt.Errorf("reaching the listener for admission requests: %w", err)
		}
		return conn.Close()
	}
}
