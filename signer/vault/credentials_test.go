// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/signer/vault"
)

// Vault locks an AppRole out for a quarter of an hour after five wrong secret IDs, for all who use it.
func TestWrongSecretIDLocksNoRoleOut(t *testing.T) {
	s := newVault(t)
	auth, secret := s.appRole(t, "1h", "10h")
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := s.newBackend(t, auth, newSecret("approle", "secretID", "no-such-secret-id"), withClock(clock))
	for range 15 * 60 / 5 {
		_, err := b.Sign(t.Context(), request(t))
		wantReason(t, err, "VaultLoginFailed", "invalid secret id")
		clock.SetTime(clock.Now().Add(5 * time.Second))
	}
	b.replace(t, secret)
	mustSign(t, b)
}

func testRefusedCredentials(t *testing.T, w *watched) {
	auth, secret := w.appRole(t, "1h", "10h")
	good := string(secret.Data["secretID"])
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := w.newBackend(t, auth, newSecret("approle", "secretID", "no-such-secret-id"), withClock(clock))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := b.Sign(t.Context(), request(t))
			wantReason(t, err, "VaultLoginFailed", "invalid secret id")
			if strings.Contains(fmt.Sprint(err), "no-such-secret-id") {
				t.Errorf("the error holds the secret ID: %v", err)
			}
		})
	}
	wg.Wait()
	if n := w.logins.Load(); n != 1 {
		t.Errorf("50 requests showed the same refused credentials %d times", n)
	}
	clock.SetTime(clock.Now().Add(5 * time.Minute))
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultLoginFailed", "invalid secret id")
	if n := w.logins.Load(); n != 2 {
		t.Errorf("after a pause there were %d logins, want 2", n)
	}
	b.replace(t, newSecret("approle", "secretID", good))
	mustSign(t, b) // at once, as these are other credentials
}

func testTokenSecret(t *testing.T, w *watched) {
	clock := clocktesting.NewFakePassiveClock(time.Now())
	first, second := w.newToken(t, `,"ttl":"1h"`), w.newToken(t, `,"ttl":"1h"`)
	b := w.newBackend(t, tokenAuth(), tokenSecret(first), withClock(clock))
	mustSign(t, b)
	clock.SetTime(clock.Now().Add(45 * time.Minute))
	mustSign(t, b)
	if n := w.renewals.Load(); n != 1 {
		t.Errorf("the token was renewed %d times, want once", n)
	}
	w.do(t, http.MethodPost, "auth/token/revoke", `{"token":"`+first+`"}`)
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultPermissionDenied", "Vault answered 403 at pki/sign/web")
	wantReason(t, b.Check(t.Context()), "VaultTokenRefused", "the token was revoked or has expired")
	b.replace(t, tokenSecret(second))
	mustSign(t, b)
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("Check with the new token: %v", err)
	}
	b.replace(t, newSecret("vault", "other", "x"))
	_, err = b.Sign(t.Context(), request(t))
	wantReason(t, err, "SecretIncomplete", `Secret certwright/vault has no key "token"`)
}

func testJWTChanges(t *testing.T, w *watched) {
	auth, dir := w.kubernetesAuth(t)
	file := filepath.Join(dir, "vault")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := w.newBackend(t, auth, nil, func(o *vault.Options) { o.TokenDir = dir })
	for _, bad := range []string{"", strings.Repeat("x", 100<<10)} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := b.Sign(t.Context(), request(t))
		wantReason(t, err, "VaultTokenFileMissing", `token with audience "vault": `+file+": it is empty or longer than 65536 bytes")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err = b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultTokenFileMissing", "no such file")
	other := serviceAccountToken(t)
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultLoginFailed", "at auth/kubernetes/login: permission denied")
	if strings.Contains(err.Error(), other) {
		t.Errorf("the error holds the JWT: %v", err)
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	mustSign(t, b)
}

func TestClientCertificateChanges(t *testing.T) {
	s := newVault(t)
	auth, secret := s.certificateAuth(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := s.newBackend(t, auth, secret, withClock(clock))
	mustSign(t, b)
	_, next := s.certificateAuth(t) // which takes the place of the first at Vault
	clock.SetTime(clock.Now().Add(800 * time.Hour))
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultLoginFailed", "at auth/cert/login")
	b.replace(t, next)
	mustSign(t, b)
}
