// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/signer"
)

// watched is a proxy before a Vault that counts what passes, and can answer in its place.
type watched struct {
	*vaultServer
	logins, renewals, signs atomic.Int64
	answer                  atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

// watch puts a proxy before the server, which then is what newBackend leads to.
func (s *vaultServer) watch(t *testing.T) *watched {
	t.Helper()
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{}
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.Transport = s.client.Transport
	front := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/auth/approle/login"):
			w.logins.Add(1)
		case r.URL.Path == "/v1/auth/token/renew-self":
			w.renewals.Add(1)
		case strings.HasPrefix(r.URL.Path, "/v1/pki/sign/"):
			w.signs.Add(1)
		}
		// Only when the body was read does the server see that a client has gone.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if answer := w.answer.Load(); answer != nil && (*answer)(rw, r) {
			return
		}
		pass.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	w.vaultServer = &vaultServer{Process: s.Process, url: front.URL, ca: encode(front.Certificate()), client: front.Client()}
	return w
}

func (w *watched) instead(answer func(http.ResponseWriter, *http.Request) bool) {
	w.answer.Store(&answer)
}

func wantReason(t *testing.T, err error, reason, words string) {
	t.Helper()
	var fault *signer.CheckError
	if !errors.As(err, &fault) || fault.Reason != reason || !strings.Contains(err.Error(), words) {
		t.Errorf("got the error %v, want a *signer.CheckError of reason %s with %q", err, reason, words)
	}
}

func mustSign(t *testing.T, b signer.Backend) {
	t.Helper()
	if _, err := b.Sign(t.Context(), request(t)); err != nil {
		t.Errorf("Sign: %v", err)
	}
}

func TestSession(t *testing.T) {
	s := newVault(t)
	for name, test := range map[string]func(t *testing.T, w *watched){
		"one login for all":                          testOneLogin,
		"a revoked token":                            testRevoked,
		"a storm of refusals":                        testStormOfRefusals,
		"refused credentials":                        testRefusedCredentials,
		"renewed before it expires":                  testRenewed,
		"logged in anew at the end of what is given": testMaxTTL,
		"expired":               testExpired,
		"renewal does not work": testRenewalFails,
		"a login that hangs":    testLoginHangs,
		"a token in a Secret":   testTokenSecret,
		"a JWT that changes":    testJWTChanges,
	} {
		t.Run(name, func(t *testing.T) { test(t, s.watch(t)) })
	}
}

func testOneLogin(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "1h", "10h")
	b := w.newBackend(t, auth, secret)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { mustSign(t, b) })
	}
	wg.Wait()
	if n := w.logins.Load(); n != 1 {
		t.Errorf("20 requests at once logged in %d times", n)
	}
}

func testRevoked(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "1h", "10h")
	b := w.newBackend(t, auth, secret)
	mustSign(t, b)
	w.revokeAll(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { mustSign(t, b) })
	}
	wg.Wait()
	if n := w.logins.Load(); n != 2 {
		t.Errorf("after the token was revoked there were %d logins, want 2", n)
	}
	w.revokeAll(t)
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("Check after the token was revoked: %v", err)
	}
}

// revokeAll revokes the tokens of all logins with AppRole.
func (s *vaultServer) revokeAll(t *testing.T) {
	t.Helper()
	s.do(t, http.MethodPut, "sys/leases/revoke-prefix/auth/approle/login", `{"sync":true}`)
}

func testStormOfRefusals(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "1h", "10h")
	b := w.newBackend(t, auth, secret, withRole("forbidden"))
	w.do(t, http.MethodPost, "sys/policies/acl/certwright-none", `{"policy":"path \"pki/sign/forbidden\" { capabilities = [\"deny\"] }"}`)
	w.do(t, http.MethodPost, "auth/approle/role/certwright", `{"token_policies":"certwright-none"}`)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, err := b.Sign(t.Context(), request(t))
			wantReason(t, err, "VaultPermissionDenied", "its policy does not allow update on pki/sign/forbidden")
		})
	}
	wg.Wait()
	if n := w.logins.Load(); n > 4 { // some seconds may have passed
		t.Errorf("100 refused requests logged in %d times", n)
	}
	wantReason(t, b.Check(t.Context()), "VaultPermissionDenied", "does not allow update on pki/sign/forbidden")
}

func testRenewed(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "1h", "10h")
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := w.newBackend(t, auth, secret, withClock(clock))
	mustSign(t, b)
	for range 3 { // each time it is two thirds of its hour old
		clock.SetTime(clock.Now().Add(41 * time.Minute))
		mustSign(t, b)
		mustSign(t, b)
	}
	if l, r := w.logins.Load(), w.renewals.Load(); l != 1 || r != 3 {
		t.Errorf("there were %d logins and %d renewals, want 1 and 3", l, r)
	}
}

func testMaxTTL(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "60s", "60s")
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := w.newBackend(t, auth, secret, withClock(clock))
	mustSign(t, b)
	// Vault says how long the token lives from its own now, which is not later: it cannot be prolonged. The clock here is.
	w.instead(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/auth/token/renew-self" {
			return false
		}
		_, _ = rw.Write([]byte(`{"auth":{"client_token":"` + r.Header.Get("X-Vault-Token") + `","lease_duration":15,"renewable":true}}`))
		return true
	})
	clock.SetTime(clock.Now().Add(45 * time.Second))
	mustSign(t, b)
	if l, r := w.logins.Load(), w.renewals.Load(); l != 2 || r != 1 {
		t.Errorf("there were %d logins and %d renewals, want 2 and 1", l, r)
	}
}

func testExpired(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "2s", "2s")
	b := w.newBackend(t, auth, secret)
	mustSign(t, b)
	token := time.Now()
	eventually(t, "the login has expired", func() bool { return time.Since(token) > 2*time.Second })
	mustSign(t, b)
	if n := w.logins.Load(); n != 2 {
		t.Errorf("after the login expired there were %d logins, want 2", n)
	}
}

func testRenewalFails(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "1h", "10h")
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := w.newBackend(t, auth, secret, withClock(clock))
	mustSign(t, b)
	var asked atomic.Int64
	w.instead(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/auth/") {
			return false
		}
		asked.Add(1)
		rw.WriteHeader(http.StatusInternalServerError)
		return true
	})
	clock.SetTime(clock.Now().Add(45 * time.Minute))
	for range 10 {
		mustSign(t, b) // the token is still good
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("10 requests tried %d times to renew or log in, want one of each", n)
	}
	clock.SetTime(clock.Now().Add(time.Hour))
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultUnavailable", "Vault answered 500 at auth/approle/login")
	w.answer.Store(nil)
	clock.SetTime(clock.Now().Add(2 * time.Second))
	mustSign(t, b)
}

func testLoginHangs(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "1h", "10h")
	b := w.newBackend(t, auth, secret)
	w.instead(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/auth/") {
			return false
		}
		<-r.Context().Done()
		return true
	})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := b.Sign(ctx, request(t)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got the error %v, want that of the context", err)
			}
		})
	}
	wg.Wait()
	w.answer.Store(nil)
	mustSign(t, b)
}
