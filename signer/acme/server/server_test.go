// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/server"
)

// hostile is an ACME server that does as it is told.
type hostile struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request)
	calls  atomic.Int64
	extra  string // in the directory
}

func newHostile(t *testing.T) (*hostile, *server.Server, *clocktesting.FakePassiveClock) {
	t.Helper()
	h := &hostile{}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.calls.Add(1)
		w.Header().Set("Replay-Nonce", fmt.Sprint(h.calls.Load()))
		switch r.URL.Path {
		case "/dir":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"newNonce":"%[1]s/nonce","newAccount":"%[1]s/account","newOrder":"%[1]s/order"%[2]s}`, h.URL, h.extra)
		case "/nonce":
		default:
			h.answer(w, r)
		}
	}))
	t.Cleanup(h.Close)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	clk := clocktesting.NewFakePassiveClock(time.Now())
	s, err := server.New(v1alpha1.Server{URL: h.URL + "/dir", CABundle: string(bundle)}, clk)
	if err != nil {
		t.Fatal(err)
	}
	return h, s, clk
}

func account(t *testing.T) server.Account {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return server.Account{PrivateKey: key, Location: "https://acme.example.com/account/1"}
}

func problem(status int, kind, detail string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"type": kind, "detail": detail})
	}
}

const urn = "urn:ietf:params:acme:error:"

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		fault  server.Fault
		words  string
	}{
		"rejectedIdentifier":  {problem(400, urn+"rejectedIdentifier", "forbidden by policy"), server.FaultRequest, "rejectedIdentifier: forbidden by policy"},
		"caa":                 {problem(403, urn+"caa", "example.com: 0 issue \";\""), server.FaultRequest, "caa"},
		"badCSR":              {problem(400, urn+"badCSR", ""), server.FaultRequest, "badCSR"},
		"malformed":           {problem(400, urn+"malformed", "no"), server.FaultPassing, "malformed: no"},
		"unauthorized":        {problem(403, urn+"unauthorized", ""), server.FaultPassing, "unauthorized"},
		"dns":                 {problem(400, urn+"dns", "SERVFAIL"), server.FaultPassing, "dns: SERVFAIL"},
		"of another place":    {problem(400, "https://acme.example.com/problems/weekend", "we are away"), server.FaultPassing, "weekend: we are away"},
		"without a type":      {problem(400, "", "hm"), server.FaultPassing, "about:blank: hm"},
		"rateLimited":         {problem(429, urn+"rateLimited", "too many"), server.FaultLimit, "rateLimited: too many"},
		"429 and no more":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, server.FaultLimit, "429 Too Many Requests"},
		"accountDoesNotExist": {problem(400, urn+"accountDoesNotExist", ""), server.FaultAccount, "accountDoesNotExist"},
		"userActionRequired":  {problem(403, urn+"userActionRequired", "new terms"), server.FaultAccount, "new terms"},
		"serverInternal":      {problem(500, urn+"serverInternal", ""), server.FaultBroken, "serverInternal"},
		"a badCSR with a 500": {problem(500, urn+"badCSR", ""), server.FaultBroken, "badCSR"},
		"a busy server":       {problem(503, urn+"rateLimited", "try later"), server.FaultServer, "rateLimited: try later"},
		"500 and no more":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, server.FaultServer, "500 Internal Server Error"},
		"badNonce, always":    {problem(400, urn+"badNonce", ""), server.FaultServer, "badNonce"},
		"404":                 {http.NotFound, server.FaultGone, "404 Not Found"},
		"a page":              {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome") }, server.FaultServer, "reading the order"},
		"a problem that lies": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(400)
			fmt.Fprint(w, "{{{")
		}, server.FaultServer, "reading the order"},
		"very many words": {problem(400, urn+"malformed", strings.Repeat("word\n\x1b[31m ", 10000)), server.FaultPassing, "word"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, s, _ := newHostile(t)
			h.answer = c.answer
			_, _, err := s.Order(t.Context(), account(t), h.URL+"/order/1")
			var e *server.Error
			if !errors.As(err, &e) || e.Fault != c.fault || !strings.Contains(err.Error(), c.words) {
				t.Errorf("the error is %v (fault %v), want fault %d and %q", err, e, c.fault, c.words)
			}
			if err != nil && (len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\n\x1b")) {
				t.Errorf("the error has %d bytes, or control characters", len(err.Error()))
			}
		})
	}
}

func TestSubproblems(t *testing.T) {
	p := &acme.Problem{Type: acme.ProblemTypeCompound, Detail: "several"}
	for i := range 8 {
		sub := acme.Subproblem{Problem: acme.Problem{Type: acme.ProblemTypeDNS, Detail: "SERVFAIL"}}
		sub.Identifier.Value = fmt.Sprintf("n%d.example.com", i)
		p.Subproblems = append(p.Subproblems, sub)
	}
	if server.FaultOf(p) != server.FaultPassing {
		t.Error("DNS may look different later")
	}
	if words := server.Words(p); !strings.Contains(words, "n0.example.com: dns: SERVFAIL") || !strings.Contains(words, "and 3 more") {
		t.Errorf("the words are %q", words)
	}
	p.Subproblems[7].Type = acme.ProblemTypeCAA
	if server.FaultOf(p) != server.FaultRequest {
		t.Error("one name that will never be allowed is enough")
	}
	if server.FaultOf(nil) != server.FaultPassing || server.Words(nil) == "" {
		t.Error("a server that does not say why says nothing about the request")
	}
}

func TestRetryAfter(t *testing.T) {
	h, s, _ := newHostile(t)
	for header, want := range map[string][2]time.Duration{
		"7":                    {7 * time.Second, 7 * time.Second},
		"-5":                   {0, 0},
		"soon":                 {0, 0},
		"":                     {0, 0},
		"99999999":             {time.Hour, time.Hour},
		"99999999999999999999": {0, 0},
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat):      {50 * time.Minute, time.Hour},
		time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat): {time.Hour, time.Hour},
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):     {0, 0},
	} {
		h.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Retry-After", header)
			fmt.Fprint(w, `{"status":"processing"}`)
		}
		_, after, err := s.Order(t.Context(), account(t), h.URL+"/order/1")
		if err != nil || after < want[0] || after > want[1] {
			t.Errorf("Retry-After %q is %s (error %v), want %s", header, after, err, want[1])
		}
	}
}

// A server can link from each answer to a next one, without end.
func TestEndlessLinks(t *testing.T) {
	for _, relation := range []string{"up", "alternate"} {
		h, s, _ := newHostile(t)
		h.answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/pem-certificate-chain")
			for range 50 {
				w.Header().Add("Link", fmt.Sprintf(`<%s%sx>;rel="%s"`, h.URL, r.URL.Path, relation))
			}
			fmt.Fprint(w, "no certificate")
		}
		if _, err := s.Chains(t.Context(), account(t), h.URL+"/certificate"); err == nil {
			t.Errorf("%s: there is a chain", relation)
		}
		if n := h.calls.Load(); n > 60 {
			t.Errorf("%s: the server was asked %d times", relation, n)
		}
	}
}

func TestDirectory(t *testing.T) {
	h, s, clk := newHostile(t)
	for range 3 {
		if _, err := s.Directory(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.calls.Load(); n != 1 {
		t.Errorf("the directory was read %d times", n)
	}
	h.extra = `,"meta":{"profiles":{"short":""}}`
	clk.SetTime(clk.Now().Add(2 * time.Hour))
	if d, err := s.Directory(t.Context()); err != nil || !server.HasProfile(d, "short") {
		t.Errorf("two hours later it is %+v, %v", d.Meta, err)
	}
	h.Close()
	clk.SetTime(clk.Now().Add(2 * time.Hour))
	if d, err := s.Directory(t.Context()); err != nil || !server.HasProfile(d, "short") {
		t.Errorf("while the server is down it is %+v, %v", d.Meta, err)
	}
	if _, err := s.Refresh(t.Context()); err == nil {
		t.Error("a server that is down was read")
	}
}

func TestNoDirectory(t *testing.T) {
	h, s, _ := newHostile(t)
	h.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"hello":"world"}`) })
	if _, err := s.Directory(t.Context()); err == nil || !strings.Contains(err.Error(), "acme.url") {
		t.Errorf("the error is %v", err)
	}
}

// One server that hangs must not hold up another one, as the library's own memory of directories would.
func TestServerThatHangs(t *testing.T) {
	hanging, slow, _ := newHostile(t)
	asked := make(chan struct{})
	hanging.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := slow.FindAccount(ctx, account(t))
		done <- err
	}()
	<-asked
	h, s, _ := newHostile(t)
	h.answer = problem(400, urn+"accountDoesNotExist", "")
	if _, err := s.FindAccount(t.Context(), account(t)); err == nil || !strings.Contains(err.Error(), server.ProblemNoAccount) {
		t.Errorf("the error is %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestNew(t *testing.T) {
	for _, url := range []string{"http://acme.example.com/dir", "https://user@acme.example.com/dir", "ftp://x", ""} {
		if _, err := server.New(v1alpha1.Server{URL: url}, clocktesting.NewFakePassiveClock(time.Now())); err == nil || !strings.Contains(err.Error(), "acme.url") {
			t.Errorf("%q: %v", url, err)
		}
	}
}
