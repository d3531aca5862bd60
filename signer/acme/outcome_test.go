// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/acmetest"
)

// start starts a cluster, pebble, and a backend.
func start(t testing.TB, config acmetest.PebbleConfig, change ...func(*v1alpha1.ACME)) (*rig, *acmetest.Pebble) {
	t.Helper()
	cluster := acmetest.NewCluster(t)
	config.HTTPPort = cluster.HTTPPort(t)
	pebble := acmetest.StartPebble(t, config)
	return newRig(t, cluster, pebble.Server, change...), pebble
}

// made counts the lines of pebble's output that tell of a new order.
func made(p *acmetest.Pebble) int { return strings.Count(p.Output(), "Added order") }

// issued counts those that tell of a certificate.
func issued(p *acmetest.Pebble) int { return strings.Count(p.Output(), "Issued certificate") }

// permanent checks that an error refuses a request for good, in words that hold all of these.
func permanent(t testing.TB, err error, words ...string) {
	t.Helper()
	var refused *signer.PermanentError
	if !errors.As(err, &refused) {
		t.Fatalf("Sign returned the error %v, want a *signer.PermanentError", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not hold %q", err, word)
		}
	}
}

// clean checks that nothing is left of challenges.
func (r *rig) clean(t testing.TB) {
	t.Helper()
	if routes := r.cluster.Routes(t); len(routes) > 0 {
		t.Errorf("routes are left: %v", routes)
	}
}

func TestSameRequestBuysOneCertificate(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{})
	req := request(t, "web.example.com", "shop.example.com")
	first, err := r.sign(t, req)
	if err != nil {
		t.Fatal(err)
	}
	r.clean(t)
	second, err := r.sign(t, req)
	if err != nil || !bytes.Equal(first[0].Raw, second[0].Raw) {
		t.Errorf("the second time there is another certificate, or the error %v", err)
	}
	r.restart(t)
	third, err := r.sign(t, req)
	if err != nil || !bytes.Equal(first[0].Raw, third[0].Raw) {
		t.Errorf("after a restart there is another certificate, or the error %v", err)
	}
	if made(pebble) != 1 || issued(pebble) != 1 {
		t.Errorf("pebble has %d orders and %d certificates, want one of each", made(pebble), issued(pebble))
	}
}

func TestOrderOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{RetryAfter: 2})
	req := request(t, "web.example.com")
	// A restart after each step that waits for something.
	var reasons []string
	for len(reasons) < 50 {
		chain, err := r.Sign(t.Context(), req)
		var pending *signer.PendingError
		if !errors.As(err, &pending) {
			if err != nil {
				t.Fatal(err)
			}
			if len(chain) < 2 {
				t.Errorf("the chain has %d certificates", len(chain))
			}
			break
		}
		reasons = append(reasons, pending.Reason)
		if holds, err := r.Holds(t.Context(), req); !holds || err != nil {
			t.Errorf("Holds: %t, %v", holds, err)
		}
		r.pass(pending.After)
		r.restart(t)
	}
	if made(pebble) != 1 || issued(pebble) != 1 || len(reasons) < 2 {
		t.Errorf("pebble has %d orders and %d certificates after %d waits: %q", made(pebble), issued(pebble), len(reasons), reasons)
	}
	r.clean(t)
}

func TestServerForgetsEverything(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{})
	done, under := request(t, "web.example.com"), request(t, "shop.example.com")
	if _, err := r.sign(t, done); err != nil {
		t.Fatal(err)
	}
	r.waits(t, under)
	pebble.Restart(t)
	for name, req := range map[string]csr.Request{"under way": under, "new": request(t, "api.example.com")} {
		chain, err := r.eventually(t, req)
		if err != nil || chain == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.clean(t)
}

func TestChallengeThatFails(t *testing.T) {
	t.Parallel()
	dns := acmetest.StartChalltestsrv(t)
	dns.SetA(t, "away.example.com", "127.0.0.2") // where nobody listens
	r, pebble := start(t, acmetest.PebbleConfig{DNS: dns.DNS, Env: []string{"PEBBLE_AUTHZREUSE=0"}})
	began := r.clock.Now()
	_, err := r.sign(t, request(t, "web.example.com", "away.example.com"))
	permanent(t, err, "away.example.com", "connection", "http-01", "127.0.0.2")
	if made(pebble) != 3 {
		t.Errorf("pebble has %d orders, want three", made(pebble))
	}
	if took := r.clock.Since(began); took < 2*time.Minute || took > 10*time.Minute {
		t.Errorf("it was refused after %s: slow DNS would need more, and people less", took)
	}
	r.clean(t)
}

func TestNameThatIsForbidden(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{Blocked: []string{"blocked.example.com"}})
	_, err := r.sign(t, request(t, "web.example.com", "blocked.example.com"))
	permanent(t, err, "dnsNames", "blocked.example.com", "rejectedIdentifier", "forbidden by policy")
	if made(pebble) != 0 {
		t.Errorf("pebble has %d orders, want none", made(pebble))
	}
	if left := r.cluster.Orders(t); len(left) > 0 {
		t.Errorf("%d Secrets are left", len(left))
	}
}

func TestAnswerThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{})
	r.cluster.Closed.Store(true)
	req := request(t, "web.example.com")
	began := r.clock.Now()
	for r.clock.Since(began) < 6*time.Minute {
		_, err := r.Sign(t.Context(), req)
		var pending *signer.PendingError
		if !errors.As(err, &pending) {
			break
		}
		if strings.Contains(pending.Reason, "challenge") && !strings.Contains(pending.Reason, "answers 404") {
			t.Errorf("pending for the reason %q, want it to tell of the 404", pending.Reason)
		}
		r.pass(pending.After)
	}
	_, err := r.Sign(t.Context(), req)
	var late *signer.RequestError
	var pending *signer.PendingError
	if !errors.As(err, &late) && !errors.As(err, &pending) {
		t.Fatalf("after %s Sign returned the error %v, want a *signer.RequestError", r.clock.Since(began), err)
	}
	if strings.Contains(pebble.Output(), "Pulled a task") || strings.Contains(pebble.Output(), "Attempting to validate") {
		t.Error("the server was told to validate what cannot be seen")
	}
	r.cluster.Closed.Store(false)
	if _, err := r.eventually(t, req); err != nil {
		t.Error(err)
	}
	if made(pebble) != 1 {
		t.Errorf("pebble has %d orders, want one", made(pebble))
	}
	r.clean(t)
}

func TestServerThatMisbehaves(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{RetryAfter: 1, Env: []string{"PEBBLE_WFE_NONCEREJECT=50", "PEBBLE_VA_SLEEPTIME=1", "PEBBLE_VA_NOSLEEP=0", "PEBBLE_AUTHZREUSE=100"}})
	for range 3 {
		if _, err := r.eventually(t, request(t, "web.example.com", "a.example.com")); err != nil {
			t.Fatal(err)
		}
	}
	r.clean(t)
}

func TestWhatACMECannotCarry(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{}) // never asked
	for name, c := range unfit(t) {
		t.Run(name, func(t *testing.T) {
			_, err := r.Sign(t.Context(), c.req)
			permanent(t, err, c.words...)
		})
	}
	if made(pebble) != 0 {
		t.Errorf("pebble has %d orders, want none", made(pebble))
	}
}
