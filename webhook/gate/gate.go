// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gate stands between the network and what answers admission requests: it bounds how much is worked on at once,
// and lets a replica leave without losing a request.
//
// What it promises:
//
//   - The memory of the process is bounded, whoever opens how many connections and sends how many requests of what size:
//     Kubernetes lets everybody who may create a pod send 3 MiB of it.
//   - Who opens many connections takes no places from others.
//   - Large bodies, and those that arrive slowly, do not delay small ones, which nearly all pods are.
//   - Who cannot be served soon is told when to try again; the API server does, within the timeout of the webhook.
//   - Once it closes, connections end with a complete answer that says so, and are never cut under a request.
package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

const (
	// small is how much of a body, in bytes, is read before its turn. What is longer is large.
	small = 64 << 10
	// largest body: two objects of the 3 MiB that the API server accepts, and the review around them.
	largest = 7 << 20

	// Bodies that are worked on at the same time. A small pod takes a millisecond, and a few more to list its Services.
	smallTurns = 16
	largeTurns = 2
	// Those of objects that are rare, and may take long to check, so that they never delay a pod.
	rareSmallTurns = 2
	rareLargeTurns = 1

	// patience is how long a request waits for its turn. With the second after which the API server tries again, it has
	// at least two chances within the ten seconds that the API server waits in all.
	patience   = 3 * time.Second
	retryAfter = "1" // seconds

	// readTimeout bounds the time for a body to arrive. From an API server it takes milliseconds.
	readTimeout = 5 * time.Second
)

var errBusy = errors.New("too many admission requests at once: try again")

// Gate is one gate in front of any number of handlers, which share its turns.
type Gate struct {
	clock      clock.Clock
	pods, rare turns
	closing    atomic.Bool
}

// turns are those of some handlers. A turn is a place in a channel.
type turns struct{ small, large chan struct{} }

func newTurns(small, large int) turns {
	return turns{small: make(chan struct{}, small), large: make(chan struct{}, large)}
}

// New returns an open Gate.
func New(c clock.Clock) *Gate {
	return &Gate{clock: c, pods: newTurns(smallTurns, largeTurns), rare: newTurns(rareSmallTurns, rareLargeTurns)}
}

// Close has each answer from now on end its connection, as HTTP/1.1 can no other way tell a client to use it no more: one
// that is idle cannot be closed without cutting off the request that may just be on its way. Serve for a few seconds more.
func (g *Gate) Close() { g.closing.Store(true) }

// Ready returns nil until the gate closes. It is a healthz.Checker.
func (g *Gate) Ready(*http.Request) error {
	if g.closing.Load() {
		return errors.New("stopping: this replica serves only what still reaches it")
	}
	return nil
}

// Wrap returns a handler that reads the body, waits for its turn, and has next answer.
func (g *Gate) Wrap(next http.Handler) http.Handler { return g.wrap(next, g.pods) }

// WrapRare is Wrap for what is seldom asked, with a few turns of its own.
func (g *Gate) WrapRare(next http.Handler) http.Handler { return g.wrap(next, g.rare) }

func (g *Gate) wrap(next http.Handler, all turns) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.closing.Load() {
			w.Header().Set("Connection", "close")
		}
		leave, err := g.admit(w, r, all)
		var tooLarge *http.MaxBytesError
		switch {
		case errors.Is(err, errBusy):
			w.Header().Set("Retry-After", retryAfter)
			http.Error(w, errBusy.Error(), http.StatusServiceUnavailable)
		case errors.As(err, &tooLarge):
			http.Error(w, fmt.Sprintf("the admission request is larger than %d bytes", tooLarge.Limit), http.StatusRequestEntityTooLarge)
		case err != nil:
			http.Error(w, "the admission request did not arrive whole, or not in time", http.StatusBadRequest)
		default:
			defer leave()
			next.ServeHTTP(w, r)
		}
	})
}

// admit reads the body into memory and takes a turn, for small bodies in this order: who sends them slowly thus takes
// nothing from others. It is for the caller to leave.
func (g *Gate) admit(w http.ResponseWriter, r *http.Request, all turns) (leave func(), err error) {
	body := http.MaxBytesReader(w, r.Body, largest)
	turns := all.small
	head, err := read(w, io.LimitReader(body, small))
	if err != nil {
		return nil, err
	}
	if len(head) == small {
		turns = all.large
	}
	if err := g.enter(r.Context(), turns); err != nil {
		return nil, err
	}
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.setBusy(true)
	}
	leave = func() { <-turns }
	rest, err := read(w, body)
	if err != nil {
		leave()
		return nil, err
	}
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(head), bytes.NewReader(rest)))
	return leave, nil
}

// enter takes a turn, waiting for it if need be.
func (g *Gate) enter(ctx context.Context, turns chan<- struct{}) error {
	select {
	case turns <- struct{}{}:
		return nil
	default:
	}
	timer := g.clock.NewTimer(patience)
	defer timer.Stop()
	select {
	case turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errBusy
	case <-timer.C():
		return errBusy
	}
}

// read reads all, within readTimeout. The deadline must not outlast the reading: it would cancel the request.
func read(w http.ResponseWriter, body io.Reader) ([]byte, error) {
	connection := http.NewResponseController(w)
	if err := connection.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return nil, fmt.Errorf("limiting the time to read: %w", err)
	}
	all, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	return all, connection.SetReadDeadline(time.Time{})
}
