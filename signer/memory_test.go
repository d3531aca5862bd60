// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// shop is a backend that sells each certificate for money, may need time for an order, and may be able to tell of those that it has.
type shop struct {
	answer func() error // nil signs
	sold   int
	asked  int
}

func (s *shop) Sign(_ context.Context, req csr.Request) ([]*x509.Certificate, error) {
	s.asked++
	if err := s.answer(); err != nil {
		return nil, err
	}
	s.sold++
	return honest(req)
}

// ledger is a shop that keeps its orders over a restart.
type ledger struct {
	*shop
	holds map[types.UID]bool
	err   error
}

func (l ledger) Holds(_ context.Context, req csr.Request) (bool, error) {
	return l.holds[req.UID], l.err
}

func sells() error  { return nil }
func isDown() error { return errors.New("503 sealed") }
func needsTime() error {
	return &PendingError{After: 10 * time.Second, Reason: "order 7 is being validated"}
}
func cannotNow() error { return &RequestError{Err: errors.New("web.example.com has no zone")} }

// newShops returns a world with two shops.
func newShops(t *testing.T, first, second func() error) (w *world, one, two *shop) {
	t.Helper()
	w = newWorld(t, approved(t, nil), newPolicy(), newSigner("first", "second"))
	one, two = &shop{answer: first}, &shop{answer: second}
	w.backends["first"], w.backends["second"] = one, two
	return w, one, two
}

// What was signed and could not be written is written the next time: a certificate may cost money, or a place in a quota.
func TestWhatWasSignedIsNotBoughtAgain(t *testing.T) {
	w, first, _ := newShops(t, sells, sells)
	w.tamper = func(string, client.Object) error { return errors.New("connection refused") }
	for range 5 {
		if _, err := w.reconcile(t); err == nil {
			t.Fatal("no error although nothing could be written")
		}
	}
	w.tamper = nil
	stale := w.stored(t)
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	before := w.stored(t).Status.Certificate
	if _, err := w.Reconcile(t.Context(), stale); err == nil { // as a cache shows it for a moment
		t.Error("no conflict")
	}
	if first.sold != 1 || !bytes.Equal(before, w.stored(t).Status.Certificate) {
		t.Errorf("%d certificates were bought, want one", first.sold)
	}
}

// What is kept is judged like anything else: it is not written if it no longer fits, or comes from a backend that is gone.
func TestWhatWasSignedMustStillFit(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, w *world){
		"a shorter lifetime now": func(t *testing.T, w *world) {
			edit(t, w, func(s *v1alpha1.Signer) { s.Spec.Limits.MaxDuration.Duration = time.Hour })
		},
		"its backend was changed": func(t *testing.T, w *world) {
			edit(t, w, func(s *v1alpha1.Signer) { s.Spec.Backends[0].CA.Managed.CommonName = "x" })
		},
		"its backend was removed": func(t *testing.T, w *world) {
			edit(t, w, func(s *v1alpha1.Signer) { s.Spec.Backends = s.Spec.Backends[1:] })
		},
		"it expired": func(_ *testing.T, w *world) {
			w.pass(23*time.Hour + 59*time.Minute + 59*time.Second)
			w.pass(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, first, second := newShops(t, sells, sells)
			w.tamper = func(string, client.Object) error { return errors.New("connection refused") }
			_, _ = w.reconcile(t)
			change(t, w)
			_, _ = w.reconcile(t)
			if first.asked+second.asked < 2 {
				t.Error("nobody was asked again")
			}
		})
	}
	t.Run("policy forbids it now", func(t *testing.T) {
		w, first, _ := newShops(t, sells, sells)
		w.tamper = func(string, client.Object) error { return errors.New("connection refused") }
		_, _ = w.reconcile(t)
		w.tamper = nil
		var p v1alpha1.CertificatePolicy
		if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "all"}, &p); err != nil {
			t.Fatal(err)
		}
		p.Generation, p.Spec.Allow.DNSNames = 2, []string{"other.example.com"}
		if err := w.Client.Update(t.Context(), &p); err != nil {
			t.Fatal(err)
		}
		if _, err := w.reconcile(t); err != nil {
			t.Fatal(err)
		}
		if o := w.stored(t); !csr.IsFailed(o) || len(o.Status.Certificate) > 0 || first.sold != 1 {
			t.Errorf("the status is %v", o.Status)
		}
	})
}

func edit(t *testing.T, w *world, change func(*v1alpha1.Signer)) {
	t.Helper()
	var s v1alpha1.Signer
	if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "internal"}, &s); err != nil {
		t.Fatal(err)
	}
	change(&s)
	s.Generation++
	if err := w.Client.Update(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
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

// What a backend cannot do for one request is not tried again at once, as each attempt may cost, and not by others' requests either.
func TestTroubleOfARequestItselfIsTriedRarely(t *testing.T) {
	for name, c := range map[string]func() error{"so it says": cannotNow, "so its leaf says": nil} {
		t.Run(name, func(t *testing.T) {
			w, first, second := newShops(t, c, cannotNow)
			if c == nil {
				w.backends["first"] = backend(func(req csr.Request) ([]*x509.Certificate, error) {
					first.asked++
					return leafOf(func(c *template) { c.DNSNames = nil })(req)
				})
			}
			var pauses []time.Duration
			for range 9 {
				result, err := w.reconcile(t)
				if err != nil {
					t.Fatal(err)
				}
				pauses = append(pauses, result.RequeueAfter)
				w.pass(time.Second)
				_, _ = w.reconcile(t) // something changed: nobody is asked before it is time
				w.pass(result.RequeueAfter - time.Second)
			}
			m := time.Minute
			if want := []time.Duration{m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, 60 * m, 60 * m, 60 * m}; !slices.Equal(pauses, want) {
				t.Errorf("tried again after %v, want %v", pauses, want)
			}
			if first.asked != 9 || second.asked != 9 {
				t.Errorf("asked %d and %d times, want 9 each", first.asked, second.asked)
			}
			w.event(t)
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

// A backend that is busy is no reason to alarm anybody, nor to wait for long.
func TestBusyBackendIsAskedSoon(t *testing.T) {
	w, first, _ := newShops(t, sells, sells)
	edit(t, w, func(s *v1alpha1.Signer) { s.Spec.Backends = s.Spec.Backends[:1] })
	w.writes = nil
	m := w.member(t, "first")
	for range atOnce {
		m.slots <- struct{}{}
	}
	result, err := w.reconcile(t)
	if err != nil || result.RequeueAfter < soon || result.RequeueAfter > 2*soon || len(w.writes) > 0 {
		t.Errorf("result %v, error %v, writes %q", result, err, w.writes)
	}
	<-m.slots
	if _, err := w.reconcile(t); err != nil || first.sold != 1 {
		t.Errorf("error %v, sold %d", err, first.sold)
	}
}

// What is remembered is bounded, whatever requesters do.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t)
	m := w.Registry.memory
	for i := range 2 * remembered {
		m.keep(types.UID(fmt.Sprint(i)), &record{with: &member{}})
	}
	if n := len(m.requests.Keys()); n > remembered {
		t.Errorf("%d requests are remembered, want %d", n, remembered)
	}
	if m.of(types.UID(fmt.Sprint(2*remembered-1))).with == nil || m.of("0").with != nil {
		t.Error("the last one was forgotten, or the first one is still known")
	}
	w.pass(rememberedFor + time.Second)
	if m.of(types.UID(fmt.Sprint(2*remembered-1))).with != nil {
		t.Error("a request is remembered longer than it can live")
	}
}

// adviser is a backend that says when to renew.
type adviser struct {
	backend
	at  time.Time
	err error
}

func (a adviser) RenewAt(context.Context, *x509.Certificate) (time.Time, error) { return a.at, a.err }

func TestAdviceIsWrittenWithTheCertificate(t *testing.T) {
	good := now.Add(7 * time.Hour)
	for name, c := range map[string]struct {
		at   time.Time
		err  error
		want string
	}{
		"advice":                     {good, nil, "2026-05-04T10:02:01Z"},
		"in another time zone":       {good.In(time.FixedZone("", 3600)), nil, "2026-05-04T10:02:01Z"},
		"none":                       {time.Time{}, nil, ""},
		"trouble":                    {good, errors.New("503"), ""},
		"before the leaf is valid":   {now.Add(-time.Hour), nil, ""},
		"after the leaf has expired": {now.Add(25 * time.Hour), nil, ""},
		"at the end of the universe": {time.Unix(1<<60, 0), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, approved(t, nil), newPolicy(), newSigner("local"))
			w.backends["local"] = adviser{honest, c.at, c.err}
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if want := []string{"patch status web"}; !slices.Equal(w.writes, want) || len(issued(t, w)) != 2 {
				t.Errorf("writes %q, want %q", w.writes, want)
			}
			var patch struct {
				Metadata struct{ Annotations map[string]string }
			}
			if err := json.Unmarshal([]byte(w.patches[0]), &patch); err != nil {
				t.Fatal(err)
			}
			if got := patch.Metadata.Annotations[v1alpha1.AnnotationRenewAt]; got != c.want {
				t.Errorf("the annotation says %q, want %q", got, c.want)
			}
		})
	}
}
