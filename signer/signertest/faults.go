// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

// Front is a backend that reaches its server through a proxy which can break what passes.
type Front struct {
	Subject
	// Proxy stands before the server: it alone is what the backend is configured to trust and to talk to.
	Proxy *faultproxy.Proxy
	// Signs reports whether the answer to a request brings the certificates.
	Signs func(*http.Request) bool
	// Answer puts another chain, leaf first, into the body of the server's answer to such a request.
	Answer func(body []byte, chain []*x509.Certificate) []byte
	// Patience is how long a request may be pending until the backend notices trouble. Default: 5 seconds.
	Patience time.Duration
	// Refusals are answers by which the server says that a request can never succeed, by name.
	Refusals map[string]Refusal
}

// Refusal is an answer of the server to those requests that bring certificates.
type Refusal struct {
	Status int
	Header http.Header
	Body   string
	// Words are the server's own, which the backend must quote.
	Words string
}

// Faults breaks what passes between a backend and its server. Trouble must never end in a verdict on the request, nor take longer
// than the context allows; whatever is tampered with must not get past verify.Chain; and after each fault the backend must work
// again.
func Faults(t *testing.T, start func(t *testing.T) Front) {
	t.Helper()
	f := start(t)
	f.Subject, f.Patience = f.ready(t), cmp.Or(f.Patience, 5*time.Second)
	f.recovers(t)
	t.Run("server down", func(t *testing.T) { f.trouble(t, func() { f.Proxy.Stop() }) })
	t.Run("certificate of a stranger", f.testImpostor)
	t.Run("server hangs", f.testHanging)
	t.Run("server is slow", f.testSlow)
	t.Run("redirect", f.testRedirect)
	t.Run("endless answer", f.testEndless)
	for name, fault := range f.troubles() {
		t.Run(name, func(t *testing.T) {
			t.Run("always", func(t *testing.T) { f.trouble(t, func() { f.Proxy.Break(fault) }) })
			t.Run("for what signs", func(t *testing.T) { f.trouble(t, func() { f.Proxy.Break(faultproxy.Only(f.Signs, fault)) }) })
		})
	}
	for name, refusal := range f.Refusals {
		t.Run("refusal: "+name, func(t *testing.T) {
			f.Proxy.Break(faultproxy.Only(f.Signs, faultproxy.Answer(refusal.Status, refusal.Header, refusal.Body)))
			f.refuses(t, f.easyRequest(t), refusal.Words)
			f.recovers(t)
		})
	}
	t.Run("tampering", f.testTampering)
}

// troubles are answers that say nothing about the request.
func (f Front) troubles() map[string]faultproxy.Fault {
	wait := http.Header{"Retry-After": {"1"}}
	return map[string]faultproxy.Fault{
		"401":              faultproxy.Answer(http.StatusUnauthorized, nil, "who are you?"),
		"403":              faultproxy.Answer(http.StatusForbidden, nil, `{"errors":["permission denied"]}`),
		"404":              faultproxy.Answer(http.StatusNotFound, nil, "404 page not found"),
		"429":              faultproxy.Answer(http.StatusTooManyRequests, wait, ""),
		"500":              faultproxy.Answer(http.StatusInternalServerError, nil, `{"errors":["internal error"]}`),
		"502":              faultproxy.Answer(http.StatusBadGateway, nil, "<html><h1>Bad gateway</h1></html>"),
		"503":              faultproxy.Answer(http.StatusServiceUnavailable, wait, ""),
		"no body":          faultproxy.Answer(http.StatusOK, nil, ""),
		"nothing in it":    faultproxy.Answer(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, "{}"),
		"a page for human": faultproxy.Answer(http.StatusOK, nil, "<html><h1>Please log in to the guest network</h1></html>"),
		"cut off":          faultproxy.Cut,
	}
}

func (f Front) easyRequest(t *testing.T) csr.Request {
	t.Helper()
	return f.request(t, f.easiest(), dnsRequest(), nil)
}

// within is how long a request in trouble may take, and margin how much later than its context it may return.
const (
	within = 2 * time.Second
	margin = time.Second
)

// trouble checks that a request ends in trouble: in time, and with no verdict.
func (f Front) trouble(t *testing.T, begin func()) {
	t.Helper()
	begin()
	f.inTrouble(t)
	f.recovers(t)
}

// inTrouble asks until the backend no longer says that it needs time, as what is broken may come late in what it does.
func (f Front) inTrouble(t *testing.T) {
	t.Helper()
	req := f.easyRequest(t)
	for deadline := time.Now().Add(f.Patience); ; {
		chain, err := f.once(t, req)
		var pending *signer.PendingError
		if errors.As(err, &pending) && time.Now().Before(deadline) {
			<-time.After(min(max(pending.After, 0), time.Second))
			continue
		}
		if err == nil || errors.As(err, &pending) || isPermanent(err) {
			t.Errorf("Sign returned %d certificates and the error %v, want trouble: neither a verdict nor a promise", len(chain), err)
		}
		return
	}
}

// once calls Sign once, which must keep to its context.
func (f Front) once(t *testing.T, req csr.Request) (chain []*x509.Certificate, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		chain, err = f.Backend.Sign(ctx, req)
	}()
	select {
	case <-returned:
	case <-time.After(within + margin):
		t.Fatalf("Sign has not returned %s after its context ended", margin)
	}
	return chain, err
}

// recovers checks that the backend signs again, soon after the fault ends.
func (f Front) recovers(t *testing.T) {
	t.Helper()
	f.Proxy.Mend(t)
	deadline := time.Now().Add(patience)
	for {
		chain, err := f.sign(t, f.easyRequest(t))
		if err == nil && len(chain) > 0 {
			return
		}
		if isPermanent(err) || time.Now().After(deadline) {
			t.Fatalf("after the fault Sign returns %d certificates and the error %v", len(chain), err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

func (f Front) testImpostor(t *testing.T) {
	f.Proxy.Impersonate(t)
	before := f.Proxy.Requests.Load()
	for range 3 { // the first may end with the connection that it takes from before
		f.inTrouble(t)
	}
	if n := f.Proxy.Requests.Load() - before; n > 0 {
		t.Errorf("%d requests reached a server whose certificate leads to no trusted CA", n)
	}
	f.recovers(t)
}

func (f Front) testHanging(t *testing.T) {
	f.trouble(t, func() { f.Proxy.Break(faultproxy.Hang) })
	f.trouble(t, func() { f.Proxy.Break(faultproxy.Only(f.Signs, faultproxy.Hang)) })
}

func (f Front) testSlow(t *testing.T) {
	f.Proxy.Break(faultproxy.Slow(200 * time.Millisecond))
	f.issue(t, f.easyRequest(t))
	f.recovers(t)
}

// A redirect would take credentials and requests to whoever the server, or who speaks in its place, names.
func (f Front) testRedirect(t *testing.T) {
	var came atomic.Int64
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		f.trouble(t, func() {
			f.Proxy.Break(faultproxy.Answer(status, http.Header{"Location": {elsewhere.URL + "/v1/steal"}}, ""))
		})
	}
	if n := came.Load(); n > 0 {
		t.Errorf("%d requests followed a redirect to another host", n)
	}
}

// endless is the size of an answer that nobody should read to its end, and enough what may be on the way when the backend hangs up.
const (
	endless = 64 << 20
	enough  = 16 << 20
)

func (f Front) testEndless(t *testing.T) {
	f.Proxy.Break(faultproxy.Endless(endless))
	before := f.Proxy.Sent.Load()
	f.inTrouble(t)
	if n := f.Proxy.Sent.Load() - before; n > enough {
		t.Errorf("the backend read %d bytes of an endless answer", n)
	}
	f.recovers(t)
}
