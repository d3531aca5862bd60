// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/certwright/certwright/csr"
)

func failing(err error) Backend {
	return backend(func(csr.Request) ([]*x509.Certificate, error) { return nil, err })
}

// unasked is a backend that must not be asked.
func unasked(t *testing.T) Backend {
	return backend(func(csr.Request) ([]*x509.Certificate, error) {
		t.Error("the next backend was asked")
		return nil, errors.New("no")
	})
}

func TestBackendThatRefusesFailsTheRequest(t *testing.T) {
	for name, err := range map[string]error{
		"plain":   &PermanentError{Err: errors.New("name constraints forbid web.example.com")},
		"wrapped": fmt.Errorf("signing: %w", &PermanentError{Err: errors.New("name constraints forbid web.example.com")}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, approved(t, nil), newPolicy(), newSigner("first", "second"))
			w.backends["first"], w.backends["second"] = failing(err), unasked(t)
			if result, err := w.reconcile(t); err != nil || !result.IsZero() {
				t.Fatalf("result %v, error %v", result, err)
			}
			w.wantFailed(t, ReasonBackendRefuse, `Backend "first" refuses: name constraints forbid web.example.com.`)
			if n := w.count(t, "certwright_signer_backend_seconds", "first", "permanent"); n != 1 {
				t.Errorf("%v calls counted as permanent, want 1", n)
			}
		})
	}
}

// A backend that is not one's own says what it likes, at any length.
func TestWordsOfABackendAreBounded(t *testing.T) {
	w := newWorld(t, approved(t, nil), newPolicy(), newSigner("first"))
	w.backends["first"] = failing(&PermanentError{Err: errors.New(strings.Repeat("é\xff", 1<<20))})
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	message := w.stored(t).Status.Conditions[1].Message
	if len(message) > maxMessage+len("…") || !utf8.ValidString(message) {
		t.Errorf("message of %d bytes, valid UTF-8 %t", len(message), utf8.ValidString(message))
	}
}

func TestBackendThatNeedsTimeIsAskedAgain(t *testing.T) {
	for name, c := range map[string]struct{ after, want time.Duration }{
		"as it says": {90 * time.Second, 90 * time.Second},
		"zero":       {0, time.Second},
		"negative":   {-time.Hour, time.Second},
		"a year":     {365 * 24 * time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, approved(t, nil), newPolicy(), newSigner("first", "second"))
			w.backends["first"], w.backends["second"] = failing(fmt.Errorf("ordering: %w", &PendingError{After: c.after, Reason: "order 7"})), unasked(t)
			result, err := w.reconcile(t)
			if err != nil || result.RequeueAfter != c.want || len(w.writes) > 0 {
				t.Errorf("result %v, error %v, writes %q, want to ask again in %s", result, err, w.writes, c.want)
			}
			if n := w.count(t, "certwright_signer_backend_seconds", "first", "pending"); n != 1 {
				t.Errorf("%v calls counted as pending, want 1", n)
			}
		})
	}
}

// Trouble of one backend is the next one's turn, whatever the trouble is: no answer, or an answer that is not to be had.
func TestNextBackendServes(t *testing.T) {
	for name, first := range map[string]Backend{
		"an error": failing(errors.New("503 sealed")),
		"a chain that does not verify": backend(func(req csr.Request) ([]*x509.Certificate, error) {
			return []*x509.Certificate{mint(req, intermediate, func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "bank.example.org") })}, nil
		}),
		"no chain and no error":       backend(func(csr.Request) ([]*x509.Certificate, error) { return nil, nil }),
		"anchors that cannot be read": anchored{backend: honest, err: errors.New("no such Secret")},
		"anchors whose reading is called permanent trouble": anchored{
			backend: honest, err: &PermanentError{Err: errors.New("no such Secret")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, approved(t, nil), newPolicy(), newSigner("first", "local", "third"))
			w.backends["first"], w.backends["third"] = first, unasked(t)
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if want := []string{"patch status web"}; !slices.Equal(w.writes, want) || len(issued(t, w)) != 2 {
				t.Errorf("writes %q, want %q", w.writes, want)
			}
			first := w.count(t, "certwright_signer_backend_seconds", "first") - w.count(t, "certwright_signer_backend_seconds", "first", "ok")
			if n := w.count(t, "certwright_signer_backend_seconds", "local", "ok"); first != 1 || n != 1 {
				t.Errorf("%v calls of the first counted as trouble, %v of the second as ok", first, n)
			}
		})
	}
}

func TestAllBackendsInTroubleIsTold(t *testing.T) {
	w := newWorld(t, approved(t, nil), newPolicy(), newSigner("first", "second"))
	sealed, refused := errors.New("503 sealed"), errors.New("connection refused")
	w.backends["first"], w.backends["second"] = failing(sealed), failing(refused)
	for range 3 {
		if _, err := w.reconcile(t); !errors.Is(err, sealed) || !errors.Is(err, refused) {
			t.Fatalf("error %v, want both", err)
		}
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	e := w.event(t)
	for _, text := range []string{"backend first: 503 sealed", "backend second: connection refused"} {
		if e.Reason != ReasonNotSignedYet || !strings.Contains(e.Note, text) {
			t.Errorf("event %s %q, want %q in it", e.Reason, e.Note, text)
		}
	}
}

// What the second backend refuses the first one may sign when it is well again: another backend can do less, and its refusal in an outage
// would be a verdict for trouble.
func TestRefusalDuringAnOutageIsNoVerdict(t *testing.T) {
	w := newWorld(t, approved(t, nil), newPolicy(), newSigner("first", "second"))
	down := true
	w.backends["first"] = backend(func(req csr.Request) ([]*x509.Certificate, error) {
		if down {
			return nil, errors.New("503 sealed")
		}
		return honest(req)
	})
	w.backends["second"] = failing(&PermanentError{Err: errors.New("uris: only DNS names are signed")})
	if _, err := w.reconcile(t); err == nil {
		t.Fatal("no error, so that it is not tried again")
	}
	if note := w.event(t).Note; !strings.Contains(note, "503 sealed") || !strings.Contains(note, "only DNS names") {
		t.Errorf("the event says %q, want both reasons", note)
	}
	down = false
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if len(issued(t, w)) != 2 {
		t.Error("no certificate although the first backend is well again")
	}
}

func TestBackendGetsTheGrantedRequest(t *testing.T) {
	r, p, s := approved(t, nil), newPolicy(), newSigner("first")
	var seconds int32 = 7 * 24 * 3600
	r.Spec.ExpirationSeconds = &seconds
	s.Spec.Limits.MaxDuration.Duration = 2 * time.Hour
	var got csr.Request
	w := newWorld(t, r, p, s)
	w.backends["first"] = backend(func(req csr.Request) ([]*x509.Certificate, error) { got = req; return honest(req) })
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if got.Duration != 2*time.Hour || got.UID != "uid-1" || len(got.DNSNames) != 2 || got.Requester.Username != "alice" {
		t.Errorf("the backend got %+v", got)
	}
}
