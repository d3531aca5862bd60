// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/http01"
	"github.com/certwright/certwright/signer/acme/order"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

// What a requester, or one odd answer, could do to the requests of others.

// harmless signs a request some times, soon after each other, and checks that it never puts the backend out of service.
func (r *rig) harmless(t *testing.T, req csr.Request) {
	t.Helper()
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := r.Sign(ctx, req)
		cancel()
		var pending *signer.PendingError
		var own *signer.RequestError
		switch {
		case errors.As(err, &pending):
			r.pass(pending.After)
		case errors.As(err, &own):
			r.pass(time.Second)
		default:
			t.Fatalf("Sign returned the error %v, want a *signer.PendingError or *signer.RequestError: whatever else there is counts as a failure of the backend", err)
		}
	}
}

func problem(status int, kind string) faultproxy.Fault {
	return faultproxy.Answer(status, http.Header{"Content-Type": {"application/problem+json"}},
		fmt.Sprintf(`{"type":"urn:ietf:params:acme:error:%s","detail":"no"}`, kind))
}

// A name whose packets are dropped uses up the time there is. The others of the request are proven all the same.
func TestNameThatDropsPackets(t *testing.T) {
	t.Parallel()
	r, pebble := start(t, acmetest.PebbleConfig{RetryAfter: 3, Env: []string{"PEBBLE_AUTHZREUSE=0"}})
	check := http01.CheckVia(func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "drop.") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return (&net.Dialer{}).DialContext(ctx, network, r.cluster.Door.Listener.Addr().String())
	})
	r.options.NewSolver = func(c v1alpha1.ACMESolver) (challenge.Solver, error) {
		return http01.New(http01.Options{Client: r.cluster.Client, Namespace: acmetest.Namespace, Check: check}, *c.HTTP01)
	}
	r.restart(t)
	r.harmless(t, request(t, "drop.example.com", "web.example.com"))
	if !strings.Contains(pebble.Output(), "Pulled a task") {
		t.Error("the server was never told of the name that can be seen")
	}
}

// A lifetime that the server does not allow, which it calls trouble of its own: step-ca's policy refuses when it signs.
func TestLifetimeThatBreaksTheServer(t *testing.T) {
	t.Parallel()
	cluster := acmetest.NewCluster(t)
	step := acmetest.StartStepCA(t, cluster.HTTPPort(t), acmetest.StartChalltestsrv(t).DNS)
	r := newRig(t, cluster, step.Server)
	req := signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.example.com"}}, tlsServer, 48*time.Hour)
	_, err := r.sign(t, req)
	var own *signer.RequestError
	if !errors.As(err, &own) || !strings.Contains(err.Error(), "serverInternal") {
		t.Fatalf("Sign returned the error %v, want a *signer.RequestError with the server's words", err)
	}
	r.harmless(t, req)
}

// A server that fails at every step of one order, and one that never answers when it is finalized.
func TestOneOrderThatFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]faultproxy.Fault{"fails": problem(http.StatusInternalServerError, "serverInternal"), "hangs": faultproxy.Hang} {
		for _, path := range []string{"/authZ/", "/chalZ/", "/finalize-order/", "/certZ/"} {
			t.Run(name+" at "+path, func(t *testing.T) {
				t.Parallel()
				r, _, proxy := behind(t, acmetest.PebbleConfig{})
				var met atomic.Bool
				proxy.Break(faultproxy.Only(func(r *http.Request) bool {
					is := strings.HasPrefix(r.URL.Path, path)
					met.Store(met.Load() || is)
					return is
				}, fault))
				r.harmless(t, request(t, "web.example.com"))
				if !met.Load() {
					t.Error("it never came to that")
				}
			})
		}
	}
}

// An order that the server lost is nobody else's trouble, nor is any look at it before another one is made.
func TestLostOrderHarmsNoOthers(t *testing.T) {
	t.Parallel()
	r, _, proxy := behind(t, acmetest.PebbleConfig{})
	r.cluster.Closed.Store(true) // the name is never proven
	req := request(t, "web.example.com")
	r.waits(t, req)
	proxy.Break(faultproxy.Only(func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/my-order/") }, problem(http.StatusNotFound, "malformed")))
	r.pass(time.Minute)
	r.harmless(t, req)
}

// noShorter refuses orders that are to end before that time from now, as servers do that take no notAfter, or none so short.
func noShorter(least time.Duration) faultproxy.Fault {
	return faultproxy.Only(func(r *http.Request) bool {
		if r.URL.Path != orderPath {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var signed struct{ Payload string }
		var wanted struct{ NotAfter time.Time }
		_ = json.Unmarshal(body, &signed)
		payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
		_ = json.Unmarshal(payload, &wanted)
		return !wanted.NotAfter.IsZero() && time.Until(wanted.NotAfter) < least
	}, problem(http.StatusBadRequest, "malformed"))
}

// Trouble teaches nothing of the lifetimes that a server gives: no request is refused for it, and none buys what cannot be used.
func TestTroubleTeachesNothingOfLifetimes(t *testing.T) {
	t.Parallel()
	r, pebble, proxy := behind(t, acmetest.PebbleConfig{})
	var orders atomic.Int64
	proxy.Break(faultproxy.Only(func(r *http.Request) bool { return r.URL.Path == orderPath && orders.Add(1) <= 3 }, problem(http.StatusInternalServerError, "serverInternal")))
	for i := range 5 {
		if _, err := r.eventually(t, request(t, "web.example.com")); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if n := issued(pebble); n != 5 {
		t.Errorf("%d certificates were bought for 5 requests", n)
	}
}

// Whoever asks for less than a server gives has his own requests refused, not those of others.
func TestShortLifetimeHarmsNoOthers(t *testing.T) {
	t.Parallel()
	r, _, proxy := behind(t, acmetest.PebbleConfig{})
	proxy.Break(noShorter(30 * time.Minute))
	for range 5 {
		if _, err := r.sign(t, request(t, "web.example.com").WithDuration(10*time.Minute)); err == nil {
			t.Fatal("there is a certificate for longer than was granted")
		}
	}
	if _, err := r.sign(t, request(t, "web.example.com")); err != nil {
		t.Errorf("a request for an hour: %v", err)
	}
}

// When a requester has as many orders as he may, his next request is left to other backends, and those of others are signed.
func TestManyOrdersOfARequester(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{})
	for i := 0; ; i++ {
		key := order.Key{Signer: r.options.Signer, Backend: r.options.Backend, UID: types.UID(fmt.Sprint(i))}
		o, err := r.book.Open(t.Context(), key, "csr", fair.Requester("system:serviceaccount:shop:web"))
		if errors.Is(err, order.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		o.URL = "https://acme.example.com/order"
		o.Release()
	}
	noisy, other := request(t, "web.example.com"), request(t, "web.example.com")
	noisy.Requester.Username, other.Requester.Username = "system:serviceaccount:shop:web", "system:serviceaccount:other:web"
	_, err := r.Sign(t.Context(), noisy)
	var own *signer.RequestError
	if !errors.As(err, &own) {
		t.Errorf("Sign returned the error %v, want a *signer.RequestError", err)
	}
	if _, err := r.sign(t, other); err != nil {
		t.Error(err)
	}
}

// A server that wants an order to wait for long has other backends asked, and is asked again within the hour.
func TestLongRetryAfter(t *testing.T) {
	t.Parallel()
	r, _ := start(t, acmetest.PebbleConfig{RetryAfter: 7200})
	req := request(t, "web.example.com")
	var own *signer.RequestError
	for range 2 {
		if _, err := r.sign(t, req); !errors.As(err, &own) {
			t.Fatalf("Sign returned the error %v, want a *signer.RequestError", err)
		}
	}
	for range 5 {
		r.pass(time.Hour)
		if _, err := r.sign(t, req); err == nil {
			return
		}
	}
	t.Error("there is no certificate after five hours")
}
