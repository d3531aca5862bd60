// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/signertest"
)

// patience is how long a test waits for what is to happen.
const patience = 30 * time.Second

// rig is a backend in a cluster in memory.
type rig struct {
	*acme.Backend
	cluster *acmetest.Cluster
	clock   *clocktesting.FakePassiveClock
	book    *order.Book
	options acme.Options
}

// ingress is a solver with an Ingress for all names.
func ingress() []v1alpha1.ACMESolver {
	return []v1alpha1.ACMESolver{{HTTP01: &v1alpha1.HTTP01{Ingress: &v1alpha1.HTTP01Ingress{ClassName: "public"}}}}
}

// newRig makes a backend for a server.
func newRig(t testing.TB, cluster *acmetest.Cluster, server v1alpha1.Server, change ...func(*v1alpha1.ACME)) *rig {
	t.Helper()
	config := v1alpha1.ACME{Server: server, AcceptTerms: true, Solvers: ingress()}
	for _, f := range change {
		f(&config)
	}
	clk := clocktesting.NewFakePassiveClock(time.Now())
	r := &rig{cluster: cluster, clock: clk, options: acme.Options{
		Client: cluster.Client, Reader: cluster.Client, Namespace: acmetest.Namespace,
		Signer: "public", Backend: "letsencrypt", ACME: config, NewSolver: cluster.NewSolver, Clock: clk,
	}}
	r.restart(t)
	return r
}

// restart is what a restart of the signer is to the backend: nothing but the cluster is left.
func (r *rig) restart(t testing.TB) {
	t.Helper()
	r.book = order.NewBook(r.cluster.Client, r.cluster.Client, acmetest.Namespace, r.clock)
	r.options.Orders = r.book
	b, err := acme.New(r.options)
	if err != nil {
		t.Fatal(err)
	}
	r.Backend = b
}

// sign signs a request, and lets the time pass that the backend asks for. It does not wait as long as that.
func (r *rig) sign(t testing.TB, req csr.Request) ([]*x509.Certificate, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return (&hasty{Backend: r.Backend, clock: r.clock}).Sign(ctx, req)
}

// eventually signs a request that may meet trouble on the way.
func (r *rig) eventually(t testing.TB, req csr.Request) ([]*x509.Certificate, error) {
	t.Helper()
	for until := time.Now().Add(patience); ; {
		chain, err := r.sign(t, req)
		var permanent *signer.PermanentError
		if err == nil || errors.As(err, &permanent) || time.Now().After(until) {
			return chain, err
		}
		r.pass(time.Minute)
	}
}

// waits signs once, and checks that the backend needs time.
func (r *rig) waits(t testing.TB, req csr.Request) {
	t.Helper()
	_, err := r.Sign(t.Context(), req)
	var pending *signer.PendingError
	if !errors.As(err, &pending) {
		t.Fatalf("Sign returned the error %v, want a *signer.PendingError", err)
	}
	if pending.After <= 0 || pending.Reason == "" {
		t.Errorf("pending for %s with the reason %q", pending.After, pending.Reason)
	}
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) { r.clock.SetTime(r.clock.Now().Add(d)) }

// hasty is a backend for which time passes as fast as it asks for.
type hasty struct {
	*acme.Backend
	clock *clocktesting.FakePassiveClock
	// back has the clock be right again at the start of every call.
	back bool
	mu   sync.Mutex
}

func (h *hasty) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	tick := time.NewTicker(10 * time.Millisecond) // for the server, whose time does not pass faster
	defer tick.Stop()
	if h.back {
		h.clock.SetTime(time.Now())
	} else {
		h.clock.SetTime(h.clock.Now().Add(time.Second)) // who asks again after trouble has waited, too
	}
	for {
		chain, err := h.Backend.Sign(ctx, req)
		var pending *signer.PendingError
		if !errors.As(err, &pending) {
			return chain, err
		}
		h.mu.Lock()
		h.clock.SetTime(h.clock.Now().Add(pending.After))
		h.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// tlsServer are the usages of all certificates of the servers in these tests.
var tlsServer = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}

// request asks for DNS names.
func request(t testing.TB, names ...string) csr.Request {
	t.Helper()
	return signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: names}, nil, time.Hour)
}

type unfitRequest struct {
	req   csr.Request
	words []string
}

// unfit are requests for what ACME cannot carry, and words of the refusals.
func unfit(t *testing.T) map[string]unfitRequest {
	t.Helper()
	names := []string{"web.example.com"}
	of := func(template x509.CertificateRequest, usages ...certificatesv1.KeyUsage) csr.Request {
		return signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &template, usages, time.Hour)
	}
	return map[string]unfitRequest{
		"URI":                  {of(x509.CertificateRequest{DNSNames: names, URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop"}}}), []string{"uris", "spiffe://cluster.local/ns/shop"}},
		"email address":        {of(x509.CertificateRequest{DNSNames: names, EmailAddresses: []string{"ops@example.com"}}), []string{"emailAddresses", "ops@example.com"}},
		"organization":         {of(x509.CertificateRequest{DNSNames: names, Subject: pkix.Name{Organization: []string{"Shop"}}}), []string{"organizations", "Shop"}},
		"common name alone":    {of(x509.CertificateRequest{Subject: pkix.Name{CommonName: "web.example.com"}}), []string{"dnsNames"}},
		"other common name":    {of(x509.CertificateRequest{DNSNames: names, Subject: pkix.Name{CommonName: "other.example.com"}}), []string{"commonName", "other.example.com"}},
		"wildcard":             {of(x509.CertificateRequest{DNSNames: []string{"*.example.com"}}), []string{"dnsNames", "*.example.com", "dns01"}},
		"no server auth":       {of(x509.CertificateRequest{DNSNames: names}, certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth), []string{"usages", "server auth"}},
		"all at once, by name": {of(x509.CertificateRequest{EmailAddresses: []string{"ops@example.com"}, Subject: pkix.Name{Country: []string{"NO"}, SerialNumber: "7"}}), []string{"emailAddresses", "countries", "serialNumbers", "dnsNames"}},
	}
}
