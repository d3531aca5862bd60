// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics counts what the agent does, and serves the numbers in the text
// format of Prometheus. It writes the few lines itself, since the client library
// would be a third of the agent.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// timeout bounds reading a request and writing the answer.
	timeout = 10 * time.Second
	// maxHeaderBytes and maxConnections bound what strangers can make the agent hold.
	maxHeaderBytes = 8 << 10
	maxConnections = 8
)

// Metrics are the agent's numbers. Its methods may be called at any time.
type Metrics struct {
	notAfter, renewalDue                           atomic.Int64
	renewals, renewalFailures, reloads, reloadFail atomic.Uint64
}

// SetNotAfter says when the certificate on disk expires; the zero time says that there is none.
func (m *Metrics) SetNotAfter(t time.Time) { m.notAfter.Store(unix(t)) }

// SetRenewalDue says since when a certificate is wanted that is not on disk yet; the zero time says that none is.
func (m *Metrics) SetRenewalDue(t time.Time) { m.renewalDue.Store(unix(t)) }

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// Renewed counts a key pair that took the place of another.
func (m *Metrics) Renewed() { m.renewals.Add(1) }

// RenewalFailed counts a call that failed or a verdict against a request.
func (m *Metrics) RenewalFailed() { m.renewalFailures.Add(1) }

// Reloaded counts a change that the application was told of.
func (m *Metrics) Reloaded() { m.reloads.Add(1) }

// ReloadFailed counts an attempt to tell the application that failed.
func (m *Metrics) ReloadFailed() { m.reloadFail.Add(1) }

// write writes all numbers in the text format, version 0.0.4.
func (m *Metrics) write(w io.Writer) error {
	for _, metric := range []struct {
		name, kind, help string
		value            any
	}{
		{"certificate_not_after_seconds", "gauge", "When the certificate expires, in seconds since 1970; 0 when there is none.", m.notAfter.Load()},
		{"renewal_due_seconds", "gauge", "Since when a certificate is wanted that is not there yet, in seconds since 1970; 0 when none is.", m.renewalDue.Load()},
		{"renewals_total", "counter", "Key pairs that took the place of another.", m.renewals.Load()},
		{"renewal_failures_total", "counter", "Calls that failed and verdicts against requests for a certificate.", m.renewalFailures.Load()},
		{"reloads_total", "counter", "Changes of the files that the application was told of.", m.reloads.Load()},
		{"reload_failures_total", "counter", "Attempts to tell the application of new files that failed.", m.reloadFail.Load()},
	} {
		name := "certwright_agent_" + metric.name
		if _, err := fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %d\n", name, metric.help, name, metric.kind, name, metric.value); err != nil {
			return err
		}
	}
	return nil
}

// ServeHTTP answers GET /metrics.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.Error(w, "the metrics are at /metrics", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_ = m.write(w) // who reads them went away
}

// Serve serves the numbers at host:port until ctx ends, which is no error. It calls listening once it does.
func (m *Metrics) Serve(ctx context.Context, address string, listening func()) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("serving metrics: %w", err)
	}
	listening()
	server := &http.Server{
		Handler:     m,
		ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: timeout, MaxHeaderBytes: maxHeaderBytes,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(netutil.LimitListener(listener, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}
