// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

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
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
)

// unasked is a backend that must not be asked.
func unasked(t *testing.T) example.Backend {
	return example.Backend(func(csr.Request) ([]*x509.Certificate, error) {
		t.Error("the next backend was asked")
		return nil, errors.New("no")
	})
}

func TestBackendThatRefusesFailsTheRequest(t *testing.T) {
	for name, err := range map[string]error{
		"plain":   &signer.PermanentError{Err: errors.New("name constraints forbid web.example.com")},
		"wrapped": fmt.Errorf("signing: %w", &signer.PermanentError{Err: errors.New("name constraints forbid web.example.com")}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("first", "second"))
			w.backends["first"], w.backends["second"] = example.Failing(err), unasked(t)
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
	w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("first"))
	w.backends["first"] = example.Failing(&signer.PermanentError{Err: errors.New(strings.Repeat("é\xff", 1<<20))})
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	message := w.stored(t).Status.Conditions[1].Message
	if len(message) > 16<<10 || !utf8.ValidString(message) {
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
			w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("first", "second"))
			w.backends["first"], w.backends["second"] = example.Failing(fmt.Errorf("ordering: %w", &signer.PendingError{After: c.after, Reason: "order 7"})), unasked(t)
			result, err := w.reconcile(t)
			if err != nil || result.RequeueAfter != c.want || len(w.api.Writes) > 0 {
				t.Errorf("result %v, error %v, writes %q, want to ask again in %s", result, err, w.api.Writes, c.want)
			}
			if n := w.count(t, "certwright_signer_backend_seconds", "first", "pending"); n != 1 {
				t.Errorf("%v calls counted as pending, want 1", n)
			}
		})
	}
}

// Trouble of one backend is the next one's turn, whatever the trouble is: no answer, or an answer that is not to be had.
func TestNextBackendServes(t *testing.T) {
	for name, first := range map[string]signer.Backend{
		"an error": example.Failing(errors.New("503 sealed")),
		"a chain that does not verify": example.Backend(func(req csr.Request) ([]*x509.Certificate, error) {
			return []*x509.Certificate{example.Leaf(req, example.Intermediate, func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "bank.example.org") })}, nil
		}),
		"no chain and no error":       example.Backend(func(csr.Request) ([]*x509.Certificate, error) { return nil, nil }),
		"anchors that cannot be read": example.Anchored{Backend: example.Honest, Err: errors.New("no such Secret")},
		"anchors whose reading is called permanent trouble": example.Anchored{
			Backend: example.Honest, Err: &signer.PermanentError{Err: errors.New("no such Secret")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("first", "local", "third"))
			w.backends["first"], w.backends["third"] = first, unasked(t)
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if want := []string{"patch status web"}; !slices.Equal(w.api.Writes, want) || len(issued(t, w)) != 2 {
				t.Errorf("writes %q, want %q", w.api.Writes, want)
			}
			first := w.count(t, "certwright_signer_backend_seconds", "first") - w.count(t, "certwright_signer_backend_seconds", "first", "ok")
			if n := w.count(t, "certwright_signer_backend_seconds", "local", "ok"); first != 1 || n != 1 {
				t.Errorf("%v calls of the first counted as trouble, %v of the second as ok", first, n)
			}
		})
	}
}

func TestAllBackendsInTroubleIsTold(t *testing.T) {
	w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("first", "second"))
	sealed, refused := errors.New("503 sealed"), errors.New("connection refused")
	w.backends["first"], w.backends["second"] = example.Failing(sealed), example.Failing(refused)
	for range 3 {
		if _, err := w.reconcile(t); !errors.Is(err, sealed) || !errors.Is(err, refused) {
			t.Fatalf("error %v, want both", err)
		}
	}
	if want := []string{"create Event"}; !slices.Equal(w.api.Writes, want) {
		t.Errorf("writes %q, want %q", w.api.Writes, want)
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
	w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("first", "second"))
	down := true
	w.backends["first"] = example.Backend(func(req csr.Request) ([]*x509.Certificate, error) {
		if down {
			return nil, errors.New("503 sealed")
		}
		return example.Honest(req)
	})
	w.backends["second"] = example.Failing(&signer.PermanentError{Err: errors.New("uris: only DNS names are signed")})
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
	r, p, s := example.Approved(t, nil), example.Policy(), example.Signer("first")
	var seconds int32 = 7 * 24 * 3600
	r.Spec.ExpirationSeconds = &seconds
	s.Spec.Limits.MaxDuration.Duration = 2 * time.Hour
	var got csr.Request
	w := newWorld(t, r, p, s)
	w.backends["first"] = example.Backend(func(req csr.Request) ([]*x509.Certificate, error) { got = req; return example.Honest(req) })
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if got.Duration != 2*time.Hour || got.UID != "uid-1" || len(got.DNSNames) != 2 || got.Requester.Username != "alice" {
		t.Errorf("the backend got %+v", got)
	}
}

// What a backend may not sign is not written, whether its request or the backend is to blame.
func TestWhatDoesNotVerifyIsNotWritten(t *testing.T) {
	for name, c := range map[string]struct {
		b      example.Backend
		text   string
		mended bool // may the requester have a hand in it?
	}{
		"another name":      {example.LeafOf(func(c *x509.Certificate) { c.DNSNames = nil }), "DNS names are", true},
		"another CA":        {example.Below(example.Stranger), "following the chain to the trust anchors", false},
		"not its own chain": {example.Below(example.Intermediate, example.Stranger.Certificate), "out of order", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("local"))
			w.backends["local"] = example.Anchored{Backend: c.b, Anchors: []*x509.Certificate{example.Root.Certificate}}
			if result, err := w.reconcile(t); (err == nil) != c.mended || c.mended && result.RequeueAfter != firstAgain {
				t.Errorf("result %v, error %v, want to try again in minutes: %t, or else with the usual backoff", result, err, c.mended)
			}
			if note := w.event(t).Note; !strings.Contains(note, "verifying the returned chain") || !strings.Contains(note, c.text) {
				t.Errorf("the event says %q, want %q", note, c.text)
			}
			if want := []string{"create Event"}; !slices.Equal(w.api.Writes, want) {
				t.Errorf("writes %q, want %q", w.api.Writes, want)
			}
			if status := w.stored(t).Status; len(status.Certificate) > 0 || len(status.Conditions) != 1 {
				t.Errorf("status is %v", status)
			}
		})
	}
}

// The reason why a backend is down is about another request, or none.
func TestWhatTookABackendDownIsNoVerdict(t *testing.T) {
	w := newWorld(t, example.Approved(t, nil), example.Policy(), example.Signer("local"))
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	b.Wrong = &signer.PermanentError{Err: &signer.PendingError{After: time.Hour, Reason: "no such role"}}
	w.backends["local"] = b
	if result, err := w.reconcile(t); err == nil {
		t.Errorf("result %v and no error, want trouble", result)
	}
	if s := w.stored(t).Status; len(s.Conditions) != 1 {
		t.Errorf("the status is %v", s)
	}
}
