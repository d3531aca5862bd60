// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
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
	w.api.Pass(held - time.Second)
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
	w.api.Pass(held - time.Second)
	ask()
	if first.sold != 0 {
		t.Error("another certificate was bought while the order was young")
	}
	w.api.Pass(2 * time.Second)
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

// The second backend got the request because the first was down, so what it refuses the first may yet sign.
func TestPendingRequestThatIsRefusedGoesOn(t *testing.T) {
	w, first, second := newShops(t, isDown, needsTime)
	_, _ = w.reconcile(t)
	second.answer = func() error { return &signer.PermanentError{Err: errors.New("order 7: the domain has no address")} }
	if _, err := w.reconcile(t); err == nil || csr.IsFailed(w.stored(t)) {
		t.Errorf("error %v, status %v", err, w.stored(t).Status)
	}
	if _, err := w.reconcile(t); err == nil || second.asked != 2 {
		t.Errorf("error %v, the second was asked %d times, want the trouble of the first, and the second no more for a while", err, second.asked)
	}
	first.answer = sells
	if _, err := w.reconcile(t); err != nil || first.sold != 1 {
		t.Errorf("error %v, the first sold %d", err, first.sold)
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
		if result, err := w.reconcile(t); err != nil || result.RequeueAfter != 10*time.Second || len(w.api.Writes) > 0 {
			t.Fatalf("result %v, error %v, writes %q: what is young is not told", result, err, w.api.Writes)
		}
	}
	w.api.Pass(2 * time.Minute)
	for range 3 {
		_, _ = w.reconcile(t)
	}
	if want := []string{"create Event"}; !slices.Equal(w.api.Writes, want) || !strings.Contains(w.event(t).Note, "order 7 is being validated") {
		t.Errorf("writes %q, event %q", w.api.Writes, w.event(t).Note)
	}
}
