// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// The second backend got the request because the first was down, so what it refuses the first may yet sign.
func TestPendingRequestThatIsRefusedGoesOn(t *testing.T) {
	w, first, second := newShops(t, isDown, needsTime)
	_, _ = w.reconcile(t)
	second.answer = func() error { return &PermanentError{Err: errors.New("order 7: the domain has no address")} }
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

// Who waits for a backend that is not fit to sign must read why at once; that one is about to begin is nothing to tell.
func TestWhyNothingIsSignedIsTold(t *testing.T) {
	lost := &CheckError{Reason: "SecretNotFound", Err: errors.New("Secret certwright-system/ca does not exist")}
	for name, c := range map[string]struct {
		b    *able
		look bool
		told string
	}{
		"it was not looked at yet":         {newAble(now, root.Certificate), false, ""},
		"it has no anchors to tell":        {&able{anchored: anchored{backend: honest, err: lost}}, true, "Secret certwright-system/ca does not exist"},
		"it is down":                       {&able{anchored: anchored{backend: honest, anchors: []*x509.Certificate{root.Certificate}}, check: lost}, true, "Secret certwright-system/ca does not exist"},
		"it is down, and has none to tell": {&able{anchored: anchored{backend: honest, err: lost}, check: lost}, true, "down since 2026-05-04T03:04:01Z: Secret certwright-system/ca does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, newSigner("local"))
			w.backends["local"] = c.b
			for _, o := range []client.Object{approved(t, nil), newPolicy()} {
				if err := w.Client.Create(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			if c.look {
				_, _ = w.check(t, "internal")
			}
			w.pass(-2 * recheck) // the request is young
			w.writes = nil
			_, _ = w.Reconcile(t.Context(), w.stored(t))
			if told := len(w.writes) > 0; told != (c.told != "") {
				t.Fatalf("writes %q, want an event: %t", w.writes, c.told != "")
			}
			var events eventsv1.EventList
			if err := w.Client.List(t.Context(), &events); err != nil {
				t.Fatal(err)
			}
			if c.told != "" && !slices.ContainsFunc(events.Items, func(e eventsv1.Event) bool {
				return e.Reason == ReasonNotSignedYet && strings.Contains(e.Note, c.told)
			}) {
				t.Errorf("the events are %v, want one with %q", events.Items, c.told)
			}
		})
	}
}
