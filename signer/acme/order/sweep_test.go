// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package order_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/order"
)

// cleaning is a solver that has nothing but something to take away.
type cleaning func(ctx context.Context, domain string) error

func (cleaning) Present(context.Context, challenge.Challenge) error         { return nil }
func (cleaning) Ready(context.Context, challenge.Challenge) error           { return nil }
func (f cleaning) CleanUp(ctx context.Context, c challenge.Challenge) error { return f(ctx, c.Domain) }

// finished makes n orders of a backend whose requests are gone, with an answer in place each.
func (f *fixture) finished(t *testing.T, backend string, n int) {
	t.Helper()
	for i := range n {
		k := key(types.UID(fmt.Sprint(i)))
		k.Backend = backend
		o, err := f.book.Open(t.Context(), k, "csr", "shop")
		if err != nil {
			t.Fatal(err)
		}
		o.Add(config, answer(fmt.Sprintf("n%d.%s.example.com", i, backend), "token"))
		if err := o.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.Release()
	}
}

func (f *fixture) cleanerBy(clean cleaning) *order.Cleaner {
	c := f.cleaner()
	c.NewSolver = func(v1alpha1.ACMESolver) (challenge.Solver, error) { return clean, nil }
	return c
}

func isSlow(domain string) bool { return strings.HasSuffix(domain, ".slow.example.com") }

// A DNS provider that hangs keeps no other backend's answers in place.
func TestSlowPlaceHoldsUpNobodyElse(t *testing.T) {
	f := newFixture(t)
	f.finished(t, "slow", 7)
	f.finished(t, "fast", 20)
	fast, hang := make(chan struct{}, 20), make(chan struct{})
	cleaner := f.cleanerBy(func(_ context.Context, domain string) error {
		if isSlow(domain) {
			<-hang
			return errors.New("the DNS provider hangs")
		}
		fast <- struct{}{}
		return nil
	})
	done := make(chan struct{})
	go func() { defer close(done); cleaner.Sweep(t.Context()) }()
	for n := range 20 {
		select {
		case <-fast:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of 20 orders were cleaned up beside slow ones", n)
		}
	}
	close(hang)
	<-done
	if n := f.book.Len(); n != 7 {
		t.Errorf("%d orders are left, want those of the slow place", n)
	}
}

// A place that is broken is not asked for each of its orders.
func TestBrokenPlaceIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	f.finished(t, "slow", 100)
	f.finished(t, "fast", 20)
	var asked atomic.Int64
	f.cleanerBy(func(_ context.Context, domain string) error {
		if isSlow(domain) {
			asked.Add(1)
			return errors.New("the DNS provider is broken")
		}
		return nil
	}).Sweep(t.Context())
	if n := asked.Load(); n < 1 || n > 8 || f.book.Len() != 100 {
		t.Errorf("the broken place was asked %d times, with %d orders left", n, f.book.Len())
	}
}

// Orders that can never be cleaned up do not keep the others of their backend for good.
func TestOrdersThatCannotBeCleanedUp(t *testing.T) {
	f := newFixture(t)
	f.finished(t, "letsencrypt", 60)
	cleaner := f.cleanerBy(func(_ context.Context, domain string) error {
		if strings.HasPrefix(domain, "n1") { // and n10 to n19
			return errors.New("the zone is gone")
		}
		return nil
	})
	for sweeps := 0; f.book.Len() > 11; sweeps++ {
		if sweeps == 1000 {
			t.Fatalf("%d orders are left, want 11", f.book.Len())
		}
		cleaner.Sweep(t.Context())
	}
}
