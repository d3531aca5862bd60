// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/breaker"
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

func permitted(t *testing.T) csr.Request {
	t.Helper()
	return parsed(t, nil, nil).WithDuration(time.Hour)
}

// newMemberOf returns a member with this backend, which has a second for a call.
func newMemberOf(t testing.TB, b Backend) *member {
	t.Helper()
	w := newWorld(t)
	config := BackendConfig{Backend: newSigner("local").Spec.Backends[0]}
	config.Backend.Timeout.Duration = time.Second
	by := maker{newBackend: func(BackendConfig) (Backend, error) { return b, nil }, clock: w.clock, onChange: func(string, breaker.State, breaker.State) {}}
	m, errs := newMember(config, by, field.NewPath("spec"))
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
				m := newMemberOf(t, b)
				began := time.Now()
				_, err := m.sign(t.Context(), permitted(t))
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second+2*grace {
					t.Errorf("error %v after %s, want the end of its second", err, took)
				}
				m.close()
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
		m := newMemberOf(t, &acting{})
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
		m := newMemberOf(t, &acting{sign: func(context.Context, csr.Request) ([]*x509.Certificate, error) {
			calls.Add(1)
			<-over
			return nil, errors.New("at last")
		}})
		m.timeout = time.Hour
		req := permitted(t)
		by := func(namespace string) csr.Request {
			r := req
			r.Requester.Username = "system:serviceaccount:" + namespace + ":web"
			return r
		}
		for range 100 {
			go func() { _, _ = m.sign(t.Context(), by("greedy")) }()
		}
		synctest.Wait()
		if n := calls.Load(); n != atOnce/2 {
			t.Errorf("%d calls of one requester are on their way, want %d", n, atOnce/2)
		}
		for i := range 100 {
			go func() { _, _ = m.sign(t.Context(), by(fmt.Sprint("other-", i))) }()
		}
		<-time.After(2 * queueing)
		began := time.Now()
		_, err := m.sign(t.Context(), req)
		var busy busyError
		if took := time.Since(began); !errors.As(err, &busy) || took > queueing || calls.Load() != atOnce {
			t.Errorf("error %v after %s with %d calls on their way, want that it is busy", err, took, calls.Load())
		}
		if s := m.breaker.View().State; s != breaker.Serving {
			t.Errorf("it is %s for being busy", s)
		}
		close(over)
	})
}

// Whatever a requester may have a hand in must neither take a backend from others, nor keep one in service that is broken.
func TestWhatARequesterCanDoDoesNotCount(t *testing.T) {
	constrained := newAuthority("constrained", root, func(c *template) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		b    backend
		want breaker.State
	}{
		"trouble":                           {t.Context(), failing(errors.New("503")).(backend), breaker.Down},
		"a refusal":                         {t.Context(), failing(&PermanentError{Err: errors.New("no")}).(backend), breaker.Serving},
		"pending":                           {t.Context(), failing(&PendingError{After: time.Second}).(backend), breaker.Serving},
		"trouble of its own":                {t.Context(), failing(fmt.Errorf("ordering: %w", &RequestError{Err: errors.New("no zone")})).(backend), breaker.Serving},
		"a leaf with another name":          {t.Context(), leafOf(func(c *template) { c.DNSNames = nil }), breaker.Serving},
		"a leaf that lives too long":        {t.Context(), leafOf(func(c *template) { c.NotAfter = now.Add(48 * time.Hour) }), breaker.Serving},
		"a name that the CA is not for":     {t.Context(), below(constrained, constrained.Certificate), breaker.Serving},
		"a chain to a stranger":             {t.Context(), below(stranger), breaker.Down},
		"a chain that is none":              {t.Context(), below(intermediate, stranger.Certificate), breaker.Down},
		"no chain":                          {t.Context(), failing(nil).(backend), breaker.Down},
		"a signer that is about to end":     {ended, failing(context.Canceled).(backend), breaker.Serving},
		"a deadline that the backend meets": {t.Context(), failing(context.DeadlineExceeded).(backend), breaker.Down},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemberOf(t, anchored{backend: c.b, anchors: []*x509.Certificate{root.Certificate}})
			m.learn(t.Context())
			m.trust(m.recall().anchors)
			req := permitted(t)
			for range 20 {
				if _, err := m.sign(c.ctx, req); err == nil {
					t.Fatal("it signs")
				}
			}
			if s := m.breaker.View().State; s != c.want {
				t.Errorf("it is %s, want %s", s, c.want)
			}
		})
	}
}

// Refusals come without the server being asked, and say nothing about it.
func TestRefusalsDoNotHideAnOutage(t *testing.T) {
	var n int
	m := newMemberOf(t, backend(func(csr.Request) ([]*x509.Certificate, error) {
		if n++; n%2 == 0 {
			return nil, &PermanentError{Err: errors.New("uris: only DNS names are signed")}
		}
		return nil, errors.New("connection refused")
	}))
	req := permitted(t)
	for range 20 {
		_, _ = m.sign(t.Context(), req)
	}
	if s := m.breaker.View().State; s != breaker.Down {
		t.Errorf("it is %s", s)
	}
}

// The reason why a backend is down is about another request, or none.
func TestWhatTookABackendDownIsNoVerdict(t *testing.T) {
	w := newWorld(t, approved(t, nil), newPolicy(), newSigner("local"))
	w.member(t, "local").breaker.Probed(&PermanentError{Err: &PendingError{After: time.Hour, Reason: "no such role"}})
	if result, err := w.reconcile(t); err == nil {
		t.Errorf("result %v and no error, want trouble", result)
	}
	if s := w.stored(t).Status; len(s.Conditions) != 1 {
		t.Errorf("the status is %v", s)
	}
}

func TestPanicIsTroubleAndNotLost(t *testing.T) {
	m := newMemberOf(t, backend(func(csr.Request) ([]*x509.Certificate, error) { panic("boom") }))
	for range 5 {
		func() {
			defer func() {
				if p := recover(); p != "boom" {
					t.Errorf("recovered %v, want it where the manager sees it", p)
				}
			}()
			_, _ = m.sign(t.Context(), permitted(t))
		}()
	}
	if s := m.breaker.View().State; s != breaker.Down {
		t.Errorf("it is %s", s)
	}
}

func TestBackendsAreClosed(t *testing.T) {
	w := newWorld(t)
	made := map[string]*acting{}
	registry := NewRegistry(w.Client, func(c BackendConfig) (Backend, error) {
		if c.Backend.Name == "bad" {
			var none *acting
			return none, errors.New("boom")
		}
		made[c.Backend.Name] = &acting{}
		return made[c.Backend.Name], nil
	}, w.clock, w.Metrics)
	closed := func(name string) int64 { return made[name].closed.Load() }
	s := newSigner("kept", "gone")
	if _, err := registry.load(s); err != nil {
		t.Fatal(err)
	}
	bad := newSigner("kept", "new", "bad")
	bad.Generation = 2
	if _, err := registry.load(bad); err == nil || closed("new") != 1 || closed("kept") != 0 || closed("gone") != 0 {
		t.Errorf("error %v, closed are new %d, kept %d, gone %d: want what was made for a Signer that is wrong", err, closed("new"), closed("kept"), closed("gone"))
	}
	changed := newSigner("kept")
	changed.Generation = 3
	if _, err := registry.load(changed); err != nil || closed("kept") != 0 || closed("gone") != 1 {
		t.Errorf("error %v, closed are kept %d, gone %d", err, closed("kept"), closed("gone"))
	}
	registry.forget(s.UID)
	if closed("kept") != 1 {
		t.Error("the backend of a Signer that is gone was not closed")
	}
	if err := Check(newSigner("looked at"), registry.newBackend); err != nil || closed("looked at") != 1 {
		t.Errorf("error %v: a Signer that was only checked left its backend open", err)
	}
	left := newMemberOf(t, made["kept"])
	left.close()
	if _, err := left.sign(t.Context(), permitted(t)); !errors.Is(err, errGone) {
		t.Errorf("a call after the end: %v", err)
	}
}

func pemOf(certs ...*x509.Certificate) (text string) {
	for _, c := range certs {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return text
}

func TestConfiguredTrustAnchors(t *testing.T) {
	leaf := mint(permitted(t), root, nil)
	for name, c := range map[string]struct{ text, want string }{
		"two, with words":          {"# the old one\n" + pemOf(root.Certificate) + "# the new one\n" + pemOf(stranger.Certificate), ""},
		"no PEM":                   {"root", "no PEM block"},
		"a key":                    {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "only CERTIFICATE"},
		"cut off":                  {pemOf(root.Certificate) + "-----BEGIN CERTIFICATE-----\nAAAA\n", "certificate 2 is not a complete PEM block"},
		"cut off in between":       {"-----BEGIN CERTIFICATE-----\nAAAA\n" + pemOf(root.Certificate), "certificate 1 is not a complete PEM block"},
		"headers":                  {strings.Replace(pemOf(root.Certificate), "-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1), "headers"},
		"no certificate in it":     {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "parsing certificate 1"},
		"a certificate, but no CA": {pemOf(root.Certificate, leaf), "certificate 2 (" + leaf.Subject.String() + ") is no CA"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner("local")
			s.Spec.Backends[0].TrustAnchors = c.text
			err := Check(s, func(BackendConfig) (Backend, error) { return &able{}, nil })
			if c.want == "" {
				if err != nil {
					t.Errorf("error %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "spec.backends[0].trustAnchors: Invalid value: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q at the field", err, c.want)
			}
		})
	}
}

// What the administrator says is trusted, whatever the backend tells.
func TestConfiguredTrustAnchorsHold(t *testing.T) {
	s := newSigner("local")
	s.Spec.Backends[0].TrustAnchors = pemOf(root.Certificate)
	w := newWatcher(t, s)
	liar := newAble(now.Add(time.Hour), stranger.Certificate)
	liar.backend = below(stranger)
	w.backends["local"] = liar
	if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, []string{"publish " + signerName + " root"}) {
		t.Errorf("calls %q, error %v", w.calls, err)
	}
	if _, err := w.member(t, "local").sign(t.Context(), permitted(t)); !errors.Is(err, errUnanchored) {
		t.Errorf("error %v, want that its chain leads elsewhere", err)
	}
	plain := newSigner("local")
	plain.Spec.Backends[0].TrustAnchors = pemOf(root.Certificate)
	w = newWatcher(t, plain)
	w.backends["local"] = backend(honest) // knows nothing of anchors
	if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, []string{"publish " + signerName + " root"}) {
		t.Errorf("calls %q, error %v", w.calls, err)
	}
	if chain, err := w.member(t, "local").sign(t.Context(), permitted(t)); err != nil || len(chain) != 2 {
		t.Errorf("%d certificates, error %v", len(chain), err)
	}
}
