// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package signertest is the conformance suite that every signer.Backend passes. It asks a real backend for certificates of
// all kinds and holds the answers against the requests, against Go, OpenSSL and GnuTLS as verifiers, and against zlint.
//
// The tests need the commands openssl and certtool (Debian: openssl, gnutls-bin).
package signertest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/verify"
)

// Subject is a backend under test.
type Subject struct {
	Backend signer.Backend
	// Clock is the backend's. It must be right to a few minutes, as GnuTLS cannot be told the time.
	Clock clock.PassiveClock
	// Anchors are what verifiers trust. If empty, the backend must be a signer.TrustAnchorer.
	Anchors []*x509.Certificate
	// IsCA is true if the backend signs CA certificates; if not, it must refuse them for good.
	IsCA bool
	// MaxDuration is the longest lifetime that the backend can give. Default: a day.
	MaxDuration time.Duration
	// Cannot is what else the backend cannot do.
	Cannot Cannot
}

// Run runs the suite against a backend, which is started once.
func Run(t *testing.T, start func(t *testing.T) Subject) {
	t.Helper()
	s := start(t).ready(t)
	t.Run("check", s.testCheck)
	t.Run("keys", s.testKeys)
	t.Run("names", s.testNames)
	t.Run("usages", s.testUsages)
	t.Run("lifetime", s.testLifetime)
	t.Run("CA certificates", s.testCA)
	t.Run("cancelled context", s.testCancelled)
	t.Run("same request twice", s.testTwice)
	t.Run("in parallel", s.testParallel)
}

// ready fills in what the backend itself says.
func (s Subject) ready(t *testing.T) Subject {
	t.Helper()
	s.MaxDuration = cmp.Or(s.MaxDuration, 24*time.Hour)
	if a, ok := s.Backend.(signer.TrustAnchorer); ok {
		anchors, err := a.TrustAnchors(t.Context())
		if err != nil || len(anchors) == 0 {
			t.Fatalf("TrustAnchors returned %d certificates and the error %v", len(anchors), err)
		}
		if len(s.Anchors) == 0 {
			s.Anchors = anchors
		}
	}
	if len(s.Anchors) == 0 {
		t.Fatal("the backend is no TrustAnchorer: Subject.Anchors must be set")
	}
	return s
}

// try issues what the backend can, and demands that it refuses what it cannot.
func (s Subject) try(t *testing.T, req csr.Request) {
	t.Helper()
	if fields := s.Cannot.fields(req); len(fields) > 0 {
		s.refuses(t, req, fields...)
		return
	}
	s.issue(t, req)
}

// issue signs a request and checks everything that must be true of the answer to any request.
func (s Subject) issue(t *testing.T, req csr.Request) *x509.Certificate {
	t.Helper()
	chain, err := s.sign(t, req)
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	if _, err := verify.Chain(chain, s.Anchors, req, s.Clock.Now()); err != nil {
		t.Fatalf("the signer does not take the chain: %v", err)
	}
	s.checkChain(t, chain, req)
	s.checkFields(t, chain[0], req)
	s.checkValidity(t, chain[0], req)
	s.lintLeaf(t, chain[0], req)
	return chain[0]
}

// patience is how long a request may stay pending: on a busy machine one that waits for a server waits long between two looks.
const patience = 5 * time.Minute

// sign has the backend sign a request, which it may do in several steps.
func (s Subject) sign(t *testing.T, req csr.Request) ([]*x509.Certificate, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		chain, err := s.Backend.Sign(ctx, req)
		var pending *signer.PendingError
		if !errors.As(err, &pending) {
			return chain, err
		}
		if pending.After <= 0 || pending.Reason == "" {
			t.Errorf("the request is pending for %s because of %q: both must be said", pending.After, pending.Reason)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the request is pending after %s: %v", patience, pending)
		case <-time.After(min(pending.After, time.Second)):
		}
	}
}

// request makes a request for what every certificate of the backend has. Without usages it asks for those of a server.
func (s Subject) request(t *testing.T, algorithm string, template *x509.CertificateRequest, usages []certificatesv1.KeyUsage) csr.Request {
	t.Helper()
	if usages == nil {
		usages = slices.Clone(serverUsages)
		for _, u := range s.Cannot.OtherUsages {
			if !slices.Contains(usages, u) {
				usages = append(usages, u)
			}
		}
	}
	return Request(t, Key(t, algorithm), template, usages, cmp.Or(s.Cannot.OtherLifetimes, time.Hour))
}

// easiest is the key algorithm that requests have which are about something else.
func (s Subject) easiest() string {
	if slices.Contains(s.Cannot.Keys, "ECDSA-P256") {
		return "RSA-2048"
	}
	return "ECDSA-P256"
}

// checkChain checks the order of the chain, that it holds no root, and that three verifiers accept it.
func (s Subject) checkChain(t *testing.T, chain []*x509.Certificate, req csr.Request) {
	t.Helper()
	if len(chain) == 0 {
		t.Fatal("Sign returned no certificates and no error")
	}
	for i, c := range chain[1:] {
		if !bytes.Equal(chain[i].RawIssuer, c.RawSubject) || chain[i].CheckSignatureFrom(c) != nil {
			t.Errorf("certificate %d of the chain is not signed by the one behind it", i)
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			t.Errorf("certificate %d of the chain is a root", i+1)
		}
	}
	leaf := chain[0]
	if issuer := s.issuerOf(chain); issuer != nil && !bytes.Equal(leaf.AuthorityKeyId, issuer.SubjectKeyId) {
		t.Errorf("authority key identifier %x, and the issuer's subject key identifier is %x", leaf.AuthorityKeyId, issuer.SubjectKeyId)
	}
	verifiers := Verifiers()
	if asksForEmptyValue(req) {
		delete(verifiers, "GnuTLS") // certtool gives up when it prints such a subject, whoever signed it
	}
	for name, verify := range verifiers {
		if err := verify(t.Context(), s, chain); err != nil {
			t.Errorf("%s does not verify the chain: %v", name, err)
		}
	}
}

func (s Subject) issuerOf(chain []*x509.Certificate) *x509.Certificate {
	for _, c := range slices.Concat(chain[1:], s.Anchors) {
		if chain[0].CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

func (s Subject) checkValidity(t *testing.T, leaf *x509.Certificate, req csr.Request) {
	t.Helper()
	now := s.Clock.Now()
	if leaf.NotBefore.After(now) || leaf.NotBefore.Before(now.Add(-time.Hour)) {
		t.Errorf("notBefore is %s at %s: it must not be later, and at most an hour earlier", leaf.NotBefore, now)
	}
	// The clock may be a real one, which has gone on since the leaf was signed.
	if end := now.Add(req.Duration); leaf.NotAfter.After(end) {
		t.Errorf("notAfter is %s, later than %s, which is %s from now", leaf.NotAfter, end, req.Duration)
	}
	if e, ok := s.Backend.(signer.Expirer); ok {
		if end, err := e.NotAfter(t.Context()); err != nil || leaf.NotAfter.After(end) {
			t.Errorf("notAfter is %s, and the CA's is %s (error %v)", leaf.NotAfter, end, err)
		}
	}
}

func (s Subject) testCheck(t *testing.T) {
	if c, ok := s.Backend.(signer.Checker); ok {
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("Check of a backend that can sign: %v", err)
		}
	}
}

func (s Subject) testLifetime(t *testing.T) {
	always := s.Cannot.OtherLifetimes
	for _, d := range []time.Duration{10 * time.Minute, time.Hour, max(s.MaxDuration, always)} {
		t.Run(d.String(), func(t *testing.T) {
			req := s.request(t, s.easiest(), dnsRequest(), nil).WithDuration(d)
			if d < always {
				s.refuses(t, req, "duration")
				return
			}
			leaf := s.issue(t, req)
			if life, want := leaf.NotAfter.Sub(s.Clock.Now()), cmp.Or(always, d); life < want-time.Hour {
				t.Errorf("the leaf lives %s, more than an hour less than %s", life, want)
			}
		})
	}
}

func (s Subject) testCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Backend.Sign(ctx, s.request(t, s.easiest(), dnsRequest(), nil))
	if err == nil || isPermanent(err) {
		t.Errorf("Sign with a cancelled context returned %v: it must be an error, and never a permanent one", err)
	}
}

func (s Subject) testTwice(t *testing.T) {
	req := s.request(t, s.easiest(), dnsRequest(), nil)
	before := slices.Clone(req.DER)
	s.issue(t, req)
	s.issue(t, req)
	if !bytes.Equal(before, req.DER) || len(req.DNSNames) != len(dnsRequest().DNSNames) {
		t.Error("Sign changed the request")
	}
}

func (s Subject) testParallel(t *testing.T) {
	const n = 50
	reqs, chains, errs := make([]csr.Request, n), make([][]*x509.Certificate, n), make([]error, n)
	for i := range n {
		reqs[i] = s.request(t, s.easiest(), dnsRequest(), nil)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { chains[i], errs[i] = s.sign(t, reqs[i]) })
	}
	wg.Wait()
	serials := map[string]bool{}
	for i := range n {
		if errs[i] != nil {
			t.Fatalf("Sign %d of %d: %v", i, n, errs[i])
		}
		s.checkFields(t, chains[i][0], reqs[i])
		serials[chains[i][0].SerialNumber.String()] = true
	}
	if len(serials) != n {
		t.Errorf("%d certificates have %d different serial numbers", n, len(serials))
	}
}
