// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writer counts who is inside for a name, and fails as often as it is told to.
type writer struct {
	inside, most, calls atomic.Int64
	conflicts           atomic.Int64
	enter               func()
}

func (w *writer) Present(_ context.Context, _ txt.Record) error {
	w.calls.Add(1)
	if n := w.inside.Add(1); n > w.most.Load() {
		w.most.Store(n)
	}
	defer w.inside.Add(-1)
	if w.enter != nil {
		w.enter()
	}
	if w.conflicts.Add(-1) >= 0 {
		return ErrConflict
	}
	return nil
}

func (w *writer) CleanUp(ctx context.Context, r txt.Record) error { return w.Present(ctx, r) }

func record(zone, name string) txt.Record {
	return txt.Record{Zone: zone, Name: name, Value: strings.Repeat("v", 43)}
}

func guard(t *testing.T, w txt.Writer) *Guard {
	t.Helper()
	names, err := ParseNames([]string{"example.com"}, []string{"Auth.example.net."})
	must(t, err)
	return NewGuard(w, names)
}

// A signer that was taken over can have certwright-dns write nothing but what answers challenges.
func TestNamesThatMayBeWritten(t *testing.T) {
	for title, c := range map[string]struct {
		record  txt.Record
		allowed bool
	}{
		"challenge":                       {record("example.com.", "_acme-challenge.www.example.com."), true},
		"challenge of the apex":           {record("example.com.", "_acme-challenge.example.com."), true},
		"any name in a delegated zone":    {record("auth.example.net.", "f00.auth.example.net."), true},
		"apex of a delegated zone":        {record("auth.example.net.", "auth.example.net."), true},
		"another name":                    {record("example.com.", "_dmarc.example.com."), false},
		"apex":                            {record("example.com.", "example.com."), false},
		"looks like a challenge":          {record("example.com.", "x_acme-challenge.www.example.com."), false},
		"another zone":                    {record("example.org.", "_acme-challenge.example.org."), false},
		"a zone below":                    {record("sub.example.com.", "_acme-challenge.sub.example.com."), false},
		"a zone above":                    {record("com.", "_acme-challenge.example.com."), false},
		"a zone that ends like one of us": {record("notexample.com.", "_acme-challenge.notexample.com."), false},
	} {
		t.Run(title, func(t *testing.T) {
			w := &writer{}
			g := guard(t, w)
			for _, err := range []error{g.Present(t.Context(), c.record), g.CleanUp(t.Context(), c.record)} {
				var misconfigured *txt.ConfigError
				if (err == nil) != c.allowed || err != nil && !errors.As(err, &misconfigured) {
					t.Errorf("error %v, want one: %t", err, !c.allowed)
				}
			}
			if (w.calls.Load() > 0) != c.allowed {
				t.Errorf("%d calls of the provider", w.calls.Load())
			}
		})
	}
}

func TestParseNames(t *testing.T) {
	for _, c := range [][2][]string{{nil, nil}, {{"*.example.com"}, nil}, {nil, {"a b"}}} {
		if _, err := ParseNames(c[0], c[1]); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
}

func TestConflictsAreTriedAgain(t *testing.T) {
	w := &writer{}
	g := guard(t, w)
	r := record("example.com.", "_acme-challenge.example.com.")
	w.conflicts.Store(tries - 1)
	must(t, g.Present(t.Context(), r))
	w.conflicts.Store(tries)
	if err := g.Present(t.Context(), r); !errors.Is(err, ErrConflict) {
		t.Errorf("after %d conflicts: %v", tries, err)
	}
}

func TestOneWriterForEachName(t *testing.T) {
	w := &writer{}
	g := guard(t, w)
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() { must(t, g.Present(t.Context(), record("example.com.", "_acme-challenge.example.com."))) })
	}
	group.Wait()
	if w.most.Load() != 1 || w.calls.Load() != 32 {
		t.Errorf("%d at once, %d in all", w.most.Load(), w.calls.Load())
	}
	if len(g.locks.held) > 0 {
		t.Errorf("%d locks are left", len(g.locks.held))
	}
}

// One name that hangs holds up neither another one, nor somebody who has no time to wait.
func TestANameThatHangs(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w := &writer{enter: func() {
		first := false
		once.Do(func() { first = true })
		if first {
			close(entered)
			<-leave
		}
	}}
	g := guard(t, w)
	slow := record("example.com.", "_acme-challenge.example.com.")
	done := make(chan error)
	go func() { done <- g.Present(t.Context(), slow) }()
	<-entered
	must(t, g.Present(t.Context(), record("example.com.", "_acme-challenge.www.example.com.")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Present(ctx, slow); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	close(leave)
	must(t, <-done)
}

func TestZones(t *testing.T) {
	var z Zones
	finds := 0
	find := func() (string, error) {
		finds++
		return "id", nil
	}
	for range 2 {
		if id, err := z.ID("example.com.", find); id != "id" || err != nil {
			t.Errorf("%q, %v", id, err)
		}
	}
	_ = z.Failed("reading", "example.com.", http.StatusInternalServerError, errors.New("x"))
	if _, _ = z.ID("example.com.", find); finds != 1 {
		t.Errorf("looked %d times, want once", finds)
	}
	_ = z.Failed("reading", "example.com.", http.StatusNotFound, errors.New("x"))
	if _, _ = z.ID("example.com.", find); finds != 2 {
		t.Errorf("after the zone was gone: looked %d times, want twice", finds)
	}
}
