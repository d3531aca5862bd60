// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/member"
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
	return example.Honest(req)
}

func sells() error  { return nil }
func isDown() error { return errors.New("503 sealed") }
func needsTime() error {
	return &signer.PendingError{After: 10 * time.Second, Reason: "order 7 is being validated"}
}

func cannotNow() error { return &signer.RequestError{Err: errors.New("web.example.com has no zone")} }

// newShops returns a world with two shops.
func newShops(t *testing.T, first, second func() error) (w *world, one, two *shop) {
	t.Helper()
	w = newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("first", "second"))
	one, two = &shop{answer: first}, &shop{answer: second}
	w.backends["first"], w.backends["second"] = one, two
	return w, one, two
}

// What was signed and could not be written is written the next time: a certificate may cost money, or a place in a quota.
func TestWhatWasSignedIsNotBoughtAgain(t *testing.T) {
	w, first, _ := newShops(t, sells, sells)
	w.api.Tamper = func(string, client.Object) error { return errors.New("connection refused") }
	for range 5 {
		if _, err := w.reconcile(t); err == nil {
			t.Fatal("no error although nothing could be written")
		}
	}
	w.api.Tamper = nil
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
			w.api.Pass(23*time.Hour + 59*time.Minute + 59*time.Second)
			w.api.Pass(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, first, second := newShops(t, sells, sells)
			w.api.Tamper = func(string, client.Object) error { return errors.New("connection refused") }
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
		w.api.Tamper = func(string, client.Object) error { return errors.New("connection refused") }
		_, _ = w.reconcile(t)
		w.api.Tamper = nil
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

// What a backend cannot do for one request is not tried again at once, as each attempt may cost, and not by others' requests either.
func TestTroubleOfARequestItselfIsTriedRarely(t *testing.T) {
	for name, c := range map[string]func() error{"so it says": cannotNow, "so its leaf says": nil} {
		t.Run(name, func(t *testing.T) {
			w, first, second := newShops(t, c, cannotNow)
			if c == nil {
				w.backends["first"] = example.Backend(func(req csr.Request) ([]*x509.Certificate, error) {
					first.asked++
					return example.LeafOf(func(c *x509.Certificate) { c.DNSNames = nil })(req)
				})
			}
			var pauses []time.Duration
			for range 9 {
				result, err := w.reconcile(t)
				if err != nil {
					t.Fatal(err)
				}
				pauses = append(pauses, result.RequeueAfter)
				w.api.Pass(time.Second)
				_, _ = w.reconcile(t) // something changed: nobody is asked before it is time
				w.api.Pass(result.RequeueAfter - time.Second)
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

// What a backend said that the Signer no longer has must not have its requests looked at each second.
func TestFormerBackendIsForgotten(t *testing.T) {
	w, first, _ := newShops(t, cannotNow, cannotNow)
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	w.api.Pass(firstAgain)
	edit(t, w, func(s *v1alpha1.Signer) { s.Spec.Backends = s.Spec.Backends[1:] })
	if result, err := w.reconcile(t); err != nil || result.RequeueAfter < 2*firstAgain || first.asked != 1 {
		t.Errorf("result %v, error %v, want to try the other one again after %s", result, err, 2*firstAgain)
	}
	if n := len(w.memory.of("uid-1").again); n != 1 {
		t.Errorf("%d backends are remembered, want one", n)
	}
}

// places is how many calls a backend gets at the same time.
const places = 16

// A backend that is busy is no reason to alarm anybody, nor to wait for long.
func TestBusyBackendIsAskedSoon(t *testing.T) {
	w, first, _ := newShops(t, sells, sells)
	edit(t, w, func(s *v1alpha1.Signer) { s.Spec.Backends = s.Spec.Backends[:1] })
	w.api.Writes = nil
	over, began, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.backends["first"] = example.Backend(func(req csr.Request) ([]*x509.Certificate, error) {
		if req.Requester.Username == "alice" {
			return first.Sign(t.Context(), req)
		}
		began <- struct{}{}
		<-over
		return nil, cannotNow()
	})
	m := w.member(t)
	for i := range places {
		req := example.Granted(t)
		req.Requester.Username = fmt.Sprint("somebody ", i)
		go func() { _, _ = m.Sign(t.Context(), req); ended <- struct{}{} }()
		<-began
	}
	for i, least := range []time.Duration{soon, 2 * soon, 4 * soon, 8 * soon, busyAgain, busyAgain} {
		result, err := w.reconcile(t)
		if err != nil || result.RequeueAfter < least || result.RequeueAfter > 2*least || len(w.api.Writes) > 0 {
			t.Errorf("time %d: result %v, error %v, writes %q, want %s and up to as much more", i, result, err, w.api.Writes, least)
		}
	}
	over <- struct{}{}
	<-ended
	if _, err := w.reconcile(t); err != nil || first.sold != 1 {
		t.Errorf("error %v, sold %d", err, first.sold)
	}
	close(over)
	for range places - 1 {
		<-ended
	}
}

// What is remembered is bounded, whatever requesters do.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t)
	m := w.memory
	for i := range 2 * remembered {
		m.keep(types.UID(fmt.Sprint(i)), &record{with: &member.Member{}})
	}
	if n := len(m.requests.Keys()); n > remembered {
		t.Errorf("%d requests are remembered, want %d", n, remembered)
	}
	if m.of(types.UID(fmt.Sprint(2*remembered-1))).with == nil || m.of("0").with != nil {
		t.Error("the last one was forgotten, or the first one is still known")
	}
	w.api.Pass(rememberedFor + time.Second)
	if m.of(types.UID(fmt.Sprint(2*remembered-1))).with != nil {
		t.Error("a request is remembered longer than it can live")
	}
}
