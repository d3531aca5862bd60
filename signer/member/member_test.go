// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package member

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/breaker"
	"github.com/certwright/certwright/signer/internal/example"
)

// acting is a backend that does what its function says, and may be closed.
type acting struct {
	sign   func(ctx context.Context, req csr.Request) ([]*x509.Certificate, error)
	closed atomic.Int64
}

func (a *acting) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	return a.sign(ctx, req)
}

func (a *acting) Close() error {
	a.closed.Add(1)
	return nil
}

// newMember returns a member with this backend, which has a second for a call.
func newMember(t testing.TB, b signer.Backend) *Member {
	t.Helper()
	config := signer.BackendConfig{Backend: example.Signer("local").Spec.Backends[0]}
	config.Backend.Timeout.Duration = time.Second
	by := Maker{
		NewBackend: func(signer.BackendConfig) (signer.Backend, error) { return b, nil },
		Clock:      testingclock.NewFakePassiveClock(example.Now), OnChange: func(string, breaker.State) {},
	}
	m, errs := by.Make(config, field.NewPath("spec"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return m
}

func TestCallsAreBoundedInTime(t *testing.T) {
	for name, sign := range map[string]func(ctx context.Context, over chan struct{}) error{
		"it keeps to its context": func(ctx context.Context, _ chan struct{}) error { <-ctx.Done(); return ctx.Err() },
		"it does not":             func(_ context.Context, over chan struct{}) error { <-over; return errors.New("at last") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				over := make(chan struct{})
				b := &acting{sign: func(ctx context.Context, _ csr.Request) ([]*x509.Certificate, error) { return nil, sign(ctx, over) }}
				m := newMember(t, b)
				began := time.Now()
				_, err := m.Sign(t.Context(), example.Granted(t))
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second+2*grace {
					t.Errorf("error %v after %s, want the end of its second", err, took)
				}
				m.Close()
				close(over)
				synctest.Wait()
				if n := b.closed.Load(); n != 1 {
					t.Errorf("closed %d times, want once, after its last call", n)
				}
			})
		})
	}
}

// One that keeps no context, as a key in a device may, is not asked more and more.
func TestOtherCallsAreBoundedInNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		var calls atomic.Int64
		m := newMember(t, &acting{})
		for range 2 * asidesAtOnce {
			_, err := aside(t.Context(), m, func(context.Context) (bool, error) {
				calls.Add(1)
				<-over
				return true, nil
			})
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errStuck) {
				t.Errorf("error %v", err)
			}
		}
		if n := calls.Load(); n != asidesAtOnce {
			t.Errorf("%d calls are on their way, want %d", n, asidesAtOnce)
		}
		close(over)
		synctest.Wait()
		if ok, err := aside(t.Context(), m, func(context.Context) (bool, error) { return true, nil }); !ok || err != nil {
			t.Errorf("error %v although it is free again", err)
		}
	})
}

// A hanging backend gets so many calls and no more, and so many of one requester: the others go on to the next one at once, and those of
// other requesters find a place.
func TestCallsAreBoundedInNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		var calls atomic.Int64
		m := newMember(t, &acting{sign: func(context.Context, csr.Request) ([]*x509.Certificate, error) {
			calls.Add(1)
			<-over
			return nil, errors.New("at last")
		}})
		m.timeout = time.Hour
		req := example.Granted(t)
		by := func(namespace string) csr.Request {
			r := req
			r.Requester.Username = "system:serviceaccount:" + namespace + ":web"
			return r
		}
		for range 100 {
			go func() { _, _ = m.Sign(t.Context(), by("greedy")) }()
		}
		synctest.Wait()
		if n := calls.Load(); n != atOnce/2 {
			t.Errorf("%d calls of one requester are on their way, want %d", n, atOnce/2)
		}
		for i := range 100 {
			go func() { _, _ = m.Sign(t.Context(), by(fmt.Sprint("other-", i))) }()
		}
		<-time.After(2 * queueing)
		began := time.Now()
		_, err := m.Sign(t.Context(), req)
		var busy BusyError
		if took := time.Since(began); !errors.As(err, &busy) || took > queueing || calls.Load() != atOnce {
			t.Errorf("error %v after %s with %d calls on their way, want that it is busy", err, took, calls.Load())
		}
		if s := m.State(); s != breaker.Serving {
			t.Errorf("it is %s for being busy", s)
		}
		close(over)
	})
}

// Whatever a requester may have a hand in must neither take a backend from others, nor keep one in service that is broken.
func TestWhatARequesterCanDoDoesNotCount(t *testing.T) {
	constrained := example.NewCA("constrained", example.Root, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		b    example.Backend
		want breaker.State
	}{
		"trouble":                           {t.Context(), example.Failing(errors.New("503")), breaker.Down},
		"a refusal":                         {t.Context(), example.Failing(&signer.PermanentError{Err: errors.New("no")}), breaker.Serving},
		"pending":                           {t.Context(), example.Failing(&signer.PendingError{After: time.Second}), breaker.Serving},
		"trouble of its own":                {t.Context(), example.Failing(fmt.Errorf("ordering: %w", &signer.RequestError{Err: errors.New("no zone")})), breaker.Serving},
		"a leaf with another name":          {t.Context(), example.LeafOf(func(c *x509.Certificate) { c.DNSNames = nil }), breaker.Serving},
		"a leaf that lives too long":        {t.Context(), example.LeafOf(func(c *x509.Certificate) { c.NotAfter = example.Now.Add(48 * time.Hour) }), breaker.Serving},
		"a name that the CA is not for":     {t.Context(), example.Below(constrained, constrained.Certificate), breaker.Serving},
		"a chain to a stranger":             {t.Context(), example.Below(example.Stranger), breaker.Down},
		"a chain that is none":              {t.Context(), example.Below(example.Intermediate, example.Stranger.Certificate), breaker.Down},
		"no chain":                          {t.Context(), example.Failing(nil), breaker.Down},
		"a signer that is about to end":     {ended, example.Failing(context.Canceled), breaker.Serving},
		"a deadline that the backend meets": {t.Context(), example.Failing(context.DeadlineExceeded), breaker.Down},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMember(t, example.Anchored{Backend: c.b, Anchors: []*x509.Certificate{example.Root.Certificate}})
			m.learn(t.Context())
			m.Trust(m.Anchors())
			req := example.Granted(t)
			for range 20 {
				if _, err := m.Sign(c.ctx, req); err == nil {
					t.Fatal("it signs")
				}
			}
			if s := m.State(); s != c.want {
				t.Errorf("it is %s, want %s", s, c.want)
			}
		})
	}
}

// Refusals come without the server being asked, and say nothing about it.
func TestRefusalsDoNotHideAnOutage(t *testing.T) {
	var n int
	m := newMember(t, example.Backend(func(csr.Request) ([]*x509.Certificate, error) {
		if n++; n%2 == 0 {
			return nil, &signer.PermanentError{Err: errors.New("uris: only DNS names are signed")}
		}
		return nil, errors.New("connection refused")
	}))
	req := example.Granted(t)
	for range 20 {
		_, _ = m.Sign(t.Context(), req)
	}
	if s := m.State(); s != breaker.Down {
		t.Errorf("it is %s", s)
	}
}

func TestPanicIsTroubleAndNotLost(t *testing.T) {
	m := newMember(t, example.Backend(func(csr.Request) ([]*x509.Certificate, error) { panic("boom") }))
	for range 5 {
		func() {
			defer func() {
				if p := recover(); p != "boom" {
					t.Errorf("recovered %v, want it where the manager sees it", p)
				}
			}()
			_, _ = m.Sign(t.Context(), example.Granted(t))
		}()
	}
	if s := m.State(); s != breaker.Down {
		t.Errorf("it is %s", s)
	}
}

// A server that was set up anew has another root. Its chains led elsewhere, so it may be down: it is probed as soon as the new root is
// known, and serves with it.
func TestAnotherRootIsProbedAtOnce(t *testing.T) {
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	m := newMember(t, b)
	m.learn(t.Context())
	m.Trust(m.Anchors())
	b.Backend = example.Below(example.Stranger)
	for range 6 {
		_, _ = m.Sign(t.Context(), example.Granted(t))
	}
	for range 5 {
		m.breaker.Probed(errors.New("503 sealed"))
	}
	if at := m.Next(); m.State() != breaker.Down || !at.After(m.clock.Now()) {
		t.Fatalf("it is %s, and probed at %s: want a pause", m.State(), at)
	}
	b.Anchors = []*x509.Certificate{example.Stranger.Certificate}
	m.learn(t.Context())
	if at := m.Next(); at.After(m.clock.Now()) {
		t.Errorf("it is probed at %s, now is %s", at, m.clock.Now())
	}
	m.Inspect(t.Context(), v1alpha1.BackendStatus{}, true)
	m.Trust(m.Anchors())
	if chain, err := m.Sign(t.Context(), example.Granted(t)); err != nil || len(chain) != 1 {
		t.Errorf("%d certificates, error %v", len(chain), err)
	}
}

func TestNothingIsAskedAfterTheEnd(t *testing.T) {
	b := &acting{}
	m := newMember(t, b)
	m.Close()
	m.Close()
	if _, err := m.Sign(t.Context(), example.Granted(t)); !errors.Is(err, ErrGone) || b.closed.Load() != 1 {
		t.Errorf("error %v, closed %d times, want once", err, b.closed.Load())
	}
}
