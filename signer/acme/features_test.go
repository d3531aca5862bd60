// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
	"github.com/certwright/certwright/signer/verify"
)

// behind starts a cluster, pebble, a proxy in front of it, and a backend that goes through the proxy.
func behind(t testing.TB, config acmetest.PebbleConfig) (*rig, *acmetest.Pebble, *faultproxy.Proxy) {
	t.Helper()
	cluster := acmetest.NewCluster(t)
	config.HTTPPort = cluster.HTTPPort(t)
	pebble := acmetest.StartPebble(t, config)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(pebble.Server.CABundle))
	proxy := faultproxy.Start(t, strings.TrimSuffix(pebble.Server.URL, "/dir"), &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	return newRig(t, cluster, v1alpha1.Server{URL: proxy.URL + "/dir", CABundle: proxy.CA}), pebble, proxy
}

const orderPath = "/order-plz"

// limited answers new orders with a rate limit, and counts them.
func limited(count *atomic.Int64, retryAfter string) faultproxy.Fault {
	answer := faultproxy.Answer(http.StatusTooManyRequests, http.Header{"Retry-After": {retryAfter}, "Content-Type": {"application/problem+json"}},
		`{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates for this exact set of names"}`)
	return faultproxy.Only(func(r *http.Request) bool {
		if r.URL.Path != orderPath {
			return false
		}
		count.Add(1)
		return true
	}, answer)
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	r, _, proxy := behind(t, acmetest.PebbleConfig{})
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var orders atomic.Int64
	proxy.Break(limited(&orders, "3600"))
	req := request(t, "web.example.com")
	began := r.clock.Now()
	for r.clock.Since(began) < 59*time.Minute {
		_, err := r.Sign(t.Context(), req)
		var late *signer.RequestError
		var soon *signer.PendingError
		if !errors.As(err, &late) && !errors.As(err, &soon) || !strings.Contains(err.Error(), "exact set of names") {
			t.Fatalf("Sign returned the error %v, want a *signer.RequestError or *signer.PendingError with the server's words", err)
		}
		r.pass(time.Minute)
	}
	if n := orders.Load(); n != 1 {
		t.Errorf("%d orders were tried within the hour that the server asked for, want one", n)
	}
	// Who orders the same names too often must not stop the others for as long.
	proxy.Mend(t)
	r.clock.SetTime(time.Now())
	if _, err := r.sign(t, request(t, "shop.example.com")); err != nil {
		t.Error(err)
	}
	if took := r.clock.Since(time.Now()); took > 2*time.Minute {
		t.Errorf("another request waited for %s", took)
	}
}

func TestServerThatWantsToBeLeftAlone(t *testing.T) {
	t.Parallel()
	r, _, proxy := behind(t, acmetest.PebbleConfig{})
	req := request(t, "web.example.com")
	r.waits(t, req)
	for status, wanted := range map[int]string{http.StatusTooManyRequests: "429", http.StatusServiceUnavailable: "503"} {
		proxy.Break(faultproxy.Answer(status, http.Header{"Retry-After": {"90"}}, ""))
		r.pass(time.Minute)
		_, _ = r.Sign(t.Context(), req)
		proxy.Mend(t)
		before := proxy.Requests.Load()
		for range 8 {
			_, err := r.Sign(t.Context(), request(t, "shop.example.com"))
			if err == nil || !strings.Contains(err.Error(), wanted) {
				t.Errorf("Sign returned the error %v, want one with %s", err, wanted)
			}
			r.pass(10 * time.Second)
		}
		if n := proxy.Requests.Load() - before; n > 0 {
			t.Errorf("after %d the server was asked %d times within the time that it wanted to be left alone", status, n)
		}
		r.pass(time.Minute)
	}
	if _, err := r.eventually(t, req); err != nil {
		t.Error(err)
	}
}

func TestRenewalInformation(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{})
	req := request(t, "web.example.com")
	first, err := r.sign(t, req)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[time.Time]bool{}
	for range 5 {
		at, err := r.RenewAt(t.Context(), first[0])
		if err != nil || at.Before(first[0].NotBefore) || at.After(first[0].NotAfter) {
			t.Fatalf("renewal at %s, for a certificate from %s to %s (error %v)", at, first[0].NotBefore, first[0].NotAfter, err)
		}
		seen[at] = true
	}
	if len(seen) < 2 {
		t.Error("the instant is always the same: all certificates would be renewed at once")
	}
	// The next one by the same requester says what it replaces; by the one after, that was replaced already.
	second := request(t, "web.example.com")
	if _, err := r.sign(t, second); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(pebble.Output(), "has been marked as replaced"); n != 1 {
		t.Errorf("%d orders were marked as replaced, want one", n)
	}
	// The server may have forgotten what is replaced.
	pebble.Restart(t)
	if _, err := r.eventually(t, request(t, "web.example.com")); err != nil {
		t.Error(err)
	}
	// Of a certificate that it does not know it has no opinion.
	if at, err := r.RenewAt(t.Context(), first[0]); err == nil || !at.IsZero() {
		t.Errorf("renewal of an unknown certificate at %s, error %v", at, err)
	}
}

func TestPreferredChain(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{Env: []string{"PEBBLE_ALTERNATE_ROOTS=2", "PEBBLE_CHAIN_LENGTH=2"}})
	for index := range 3 {
		roots, err := remote.Certificates(pebble.Root(t, index), "root")
		if err != nil {
			t.Fatal(err)
		}
		preferring := newRig(t, r.cluster, pebble.Server, func(c *v1alpha1.ACME) { c.PreferredChain = roots[0].Subject.CommonName })
		req := request(t, "web.example.com")
		chain, err := preferring.sign(t, req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify.Chain(chain, roots, req, preferring.clock.Now()); err != nil {
			t.Errorf("root %d: %v", index, err)
		}
	}
	unknown := newRig(t, r.cluster, pebble.Server, func(c *v1alpha1.ACME) { c.PreferredChain = "Nobody's Root" })
	if _, err := unknown.sign(t, request(t, "web.example.com")); err != nil {
		t.Error(err)
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{Profiles: map[string]int{"classic": 90 * 24 * 3600, "shortlived": 6 * 24 * 3600}}, func(c *v1alpha1.ACME) { c.Profile = "shortlived" })
	req := request(t, "web.example.com").WithDuration(0)
	chain, err := r.sign(t, req)
	if err != nil {
		t.Fatal(err)
	}
	if life := chain[0].NotAfter.Sub(chain[0].NotBefore); life < 5*24*time.Hour || life > 7*24*time.Hour {
		t.Errorf("the certificate lives %s, and the profile has six days", life)
	}
	unknown := newRig(t, r.cluster, pebble.Server, func(c *v1alpha1.ACME) { c.Profile = "gold" })
	checkReason(t, unknown.Check(t.Context()), acme.ReasonProfileUnknown, "acme.profile", "gold", "classic", "shortlived")
	_, err = unknown.Sign(t.Context(), request(t, "web.example.com"))
	trouble(t, err)
}

func TestIPAddress(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{})
	req := signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, nil, time.Hour)
	chain, err := r.sign(t, req)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain[0].IPAddresses) != 1 || !chain[0].IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("the certificate has the addresses %v", chain[0].IPAddresses)
	}
	r.clean(t)
}

func TestGatewayAPI(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{}, func(c *v1alpha1.ACME) {
		c.Solvers = []v1alpha1.ACMESolver{
			{HTTP01: &v1alpha1.HTTP01{HTTPRoute: &v1alpha1.HTTP01Route{Gateway: v1alpha1.GatewayRef{Namespace: "gateways", Name: "public"}}}},
			{Domains: []string{"shop.example.com"}, HTTP01: &v1alpha1.HTTP01{Ingress: &v1alpha1.HTTP01Ingress{}}},
		}
	})
	if _, err := r.sign(t, request(t, "web.example.com", "shop.example.com", "api.shop.example.com")); err != nil {
		t.Fatal(err)
	}
	r.clean(t)
}

// The server gives longer lifetimes than were granted, and takes no other: after some certificates nothing more is bought.
func TestLifetimeThatCannotBe(t *testing.T) {
	t.Parallel()
	r, pebble, proxy := behind(t, acmetest.PebbleConfig{})
	proxy.Break(noShorter(math.MaxInt64))
	for i := range 6 {
		req := request(t, "web.example.com")
		for range 2 { // asking again buys nothing
			_, err := r.sign(t, req)
			var late *signer.RequestError
			if i >= 2 {
				permanent(t, err, "duration", "1h0m0s", "2160h0m0s", "limits.maxDuration", "expirationSeconds")
			} else if !errors.As(err, &late) || !strings.Contains(err.Error(), "limits.maxDuration") {
				t.Fatalf("Sign returned the error %v, want a *signer.RequestError that tells what to do", err)
			}
			r.pass(time.Minute)
		}
	}
	if n := made(pebble); n != 3 {
		t.Errorf("%d orders were made, want three", n)
	}
	var warned *signer.CheckError
	if err := r.Check(t.Context()); !errors.As(err, &warned) || warned.Reason != acme.ReasonLifetimeTooLong || !warned.Signs {
		t.Errorf("Check returned %v", err)
	}
	// What fits is signed all the same.
	if _, err := r.sign(t, request(t, "web.example.com").WithDuration(91*24*time.Hour)); err != nil {
		t.Error(err)
	}
}

// While the server takes half a minute to validate, no call waits for it, so no worker of the signer does.
func TestSlowValidation(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{Env: []string{"PEBBLE_VA_NOSLEEP=0", "PEBBLE_VA_SLEEPTIME=30", "PEBBLE_AUTHZREUSE=0"}})
	for range 20 {
		req := request(t, "web.example.com")
		began := time.Now()
		r.waits(t, req)
		r.pass(time.Second)
		r.waits(t, req)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("two calls took %s", took)
		}
	}
}
