// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/csr"
)

// ledger is a shop that keeps its orders over a restart.
type ledger struct {
	*shop
	holds map[types.UID]bool
	err   error
}

func (l ledger) Holds(_ context.Context, req csr.Request) (bool, error) {
	return l.holds[req.UID], l.err
}

// A request that is pending with a backend has an order there, which may be paid for: nobody else is asked, for a good while also when
// that backend is down.
func TestPendingRequestStays(t *testing.T) {
	w, first, second := newShops(t, isDown, needsTime)
	ask := func() { t.Helper(); _, _ = w.reconcile(t) }
	ask()
	first.answer = sells // it is well again, and would be asked first
	ask()
	if first.sold != 0 || second.asked != 2 {
		t.Errorf("the first sold %d, the second was asked %d times, want that the request stays with it", first.sold, second.asked)
	}
	second.answer = isDown
	ask()
	w.pass(held - time.Second)
	ask()
	if first.sold != 0 {
		t.Error("another certificate was bought while the order was young")
	}
	if note := w.event(t).Note; !strings.Contains(note, "stays with the backend that has begun") || !strings.Contains(note, "503 sealed") {
		t.Errorf("the event says %q", note)
	}
	second.answer = needsTime // back: the time that it was in trouble counts no more
	ask()
	second.answer = isDown
	ask()
	w.pass(held - time.Second)
	ask()
	if first.sold != 0 {
		t.Error("another certificate was bought while the order was young")
	}
	w.pass(2 * time.Second)
	ask()
	if first.sold != 1 {
		t.Errorf("the first sold %d after the second was down for %s, want one", first.sold, held)
	}
}

func TestPendingRequestIsSignedWhereItIs(t *testing.T) {
	w, first, second := newShops(t, isDown, needsTime)
	_, _ = w.reconcile(t)
	first.answer, second.answer = sells, sells
	if _, err := w.reconcile(t); err != nil || first.sold != 0 || second.sold != 1 {
		t.Errorf("error %v, the first sold %d, the second %d", err, first.sold, second.sold)
	}
}

// An order that comes to nothing for now frees the request.
func TestPendingRequestGoesOn(t *testing.T) {
	w, first, second := newShops(t, isDown, needsTime)
	_, _ = w.reconcile(t)
	second.answer = cannotNow
	_, _ = w.reconcile(t)
	first.answer = sells
	if _, err := w.reconcile(t); err != nil || first.sold != 1 || second.asked != 2 {
		t.Errorf("error %v, the first sold %d, the second was asked %d times", err, first.sold, second.asked)
	}
}

// After a restart nothing is known but what backends keep.
func TestPendingRequestStaysOverARestart(t *testing.T) {
	for name, c := range map[string]struct {
		holds  bool
		err    error
		answer func() error
		first  int
		second int
	}{
		"it holds an order":             {true, nil, needsTime, 0, 1},
		"it holds an order and is down": {true, nil, isDown, 0, 1},
		"it holds none":                 {false, nil, sells, 1, 0},
		"it does not know":              {false, errors.New("no cache"), sells, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w, first, second := newShops(t, sells, c.answer)
			w.backends["second"] = ledger{second, map[types.UID]bool{"uid-1": c.holds}, c.err}
			_, _ = w.reconcile(t)
			if first.sold != c.first || second.asked != c.second {
				t.Errorf("the first sold %d, the second was asked %d times", first.sold, second.asked)
			}
		})
	}
}

func TestPendingIsToldOnce(t *testing.T) {
	w, _, _ := newShops(t, needsTime, sells)
	for range 3 {
		if result, err := w.reconcile(t); err != nil || result.RequeueAfter != 10*time.Second || len(w.writes) > 0 {
			t.Fatalf("result %v, error %v, writes %q: what is young is not told", result, err, w.writes)
		}
	}
	w.pass(2 * time.Minute)
	for range 3 {
		_, _ = w.reconcile(t)
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) || !strings.Contains(w.event(t).Note, "order 7 is being validated") {
		t.Errorf("writes %q, event %q", w.writes, w.event(t).Note)
	}
}
