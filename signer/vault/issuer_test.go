// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/verify"
)

func anchorOf(t *testing.T, b world) *x509.Certificate {
	t.Helper()
	anchors, err := b.TrustAnchors(t.Context())
	if err != nil || len(anchors) != 1 {
		t.Fatalf("the trust anchors are %v with the error %v", anchors, err)
	}
	return anchors[0]
}

// A Vault that lost everything has no say about the trust anchors until it is set up again; then they follow it, and what it
// signs leads there.
func TestRestartedEmpty(t *testing.T) {
	s := newVault(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := s.newBackend(t, tokenAuth(), tokenSecret(rootToken), withClock(clock))
	mustSign(t, b)
	before := anchorOf(t, b)
	s.Restart(t)
	s.client.CloseIdleConnections()
	clock.SetTime(clock.Now().Add(2 * time.Minute))
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultPathNotFound", "is a PKI secrets engine mounted at \"pki\"")
	if got := anchorOf(t, b); !got.Equal(before) {
		t.Errorf("an empty Vault changed the trust anchor to %s", got.Subject)
	}
	s.setUp(t)
	clock.SetTime(clock.Now().Add(2 * time.Minute))
	req := request(t)
	chain, err := b.Sign(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	after := anchorOf(t, b)
	if after.Equal(before) {
		t.Error("the trust anchor is that of the Vault before")
	}
	if _, err := verify.Chain(chain, []*x509.Certificate{before}, req, clock.Now()); err == nil {
		t.Error("a chain to the new root is taken for one to the root that is pinned")
	}
	if _, err := verify.Chain(chain, []*x509.Certificate{after}, req, clock.Now()); err != nil {
		t.Errorf("the chain does not lead to the new root: %v", err)
	}
}

// The CA may change between two looks at it. What does not lead to the one that was seen has it looked at again.
func TestRotatedIssuer(t *testing.T) {
	s := newVault(t)
	b := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")))
	before := anchorOf(t, b)
	made := s.do(t, http.MethodPost, "pki/root/rotate/internal", `{"common_name":"Next Root","key_type":"ec","ttl":"8000h","issuer_name":"next"}`)
	s.do(t, http.MethodPost, "pki/root/replace", `{"default":"next"}`)
	chain, err := b.Sign(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 1 {
		t.Errorf("the chain of a root that signs itself has %d certificates", len(chain))
	}
	after := anchorOf(t, b)
	if after.Equal(before) || encode(after) != made["certificate"].(string)+"\n" {
		t.Errorf("the trust anchor is %s, want that of the next root", after.Subject)
	}
}

// A role may name another issuer than the default one of the engine.
func TestIssuerOfTheRole(t *testing.T) {
	s := newVault(t)
	s.do(t, http.MethodPost, "pki/root/rotate/internal", `{"common_name":"Other Root","key_type":"ec","ttl":"8000h","issuer_name":"other"}`)
	s.role(t, "other", map[string]any{"issuer_ref": "other"})
	b := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")), withRole("other"))
	if got := anchorOf(t, b); got.Subject.CommonName != "Other Root" {
		t.Errorf("the trust anchor is %s", got.Subject)
	}
	signertest.Run(t, func(*testing.T) signertest.Subject {
		return signertest.Subject{Backend: b, Clock: b.clock, Cannot: cannot, MaxDuration: 1000 * time.Hour}
	})
}

func TestRootThatVaultDoesNotKnow(t *testing.T) {
	s := newVault(t)
	s.do(t, http.MethodPost, "sys/mounts/alone", `{"type":"pki"}`)
	csr := s.do(t, http.MethodPost, "alone/intermediate/generate/internal", `{"common_name":"Alone","key_type":"ec"}`)["csr"]
	body, err := json.Marshal(map[string]any{"csr": csr, "common_name": "Alone", "ttl": "100h"})
	if err != nil {
		t.Fatal(err)
	}
	body, err = json.Marshal(map[string]any{"certificate": s.do(t, http.MethodPost, "top/root/sign-intermediate", string(body))["certificate"]})
	if err != nil {
		t.Fatal(err)
	}
	s.do(t, http.MethodPost, "alone/intermediate/set-signed", string(body))
	s.do(t, http.MethodPost, "alone/roles/web", `{"allow_any_name":true,"require_cn":false,"key_type":"any","key_usage":"DigitalSignature","client_flag":false}`)
	b := s.newBackend(t, tokenAuth(), tokenSecret(rootToken), withPath("alone"))
	_, err = b.TrustAnchors(t.Context())
	wantReason(t, err, "VaultRootUnknown", "import it to alone/issuers/import/cert, or set the backend's trustAnchors")
	chain, err := b.Sign(t.Context(), request(t)) // for a backend with trustAnchors
	if err != nil || len(chain) != 2 {
		t.Errorf("got a chain of %d certificates and the error %v, want that of the leaf and its issuer", len(chain), err)
	}
}

// Vault refuses what would outlive its CA, so less is asked for.
func TestLifetimeEndsWithTheCA(t *testing.T) {
	s := newVault(t)
	s.do(t, http.MethodPost, "sys/mounts/short", `{"type":"pki"}`)
	s.do(t, http.MethodPost, "short/root/generate/internal", `{"common_name":"Short","key_type":"ec","ttl":"30m"}`)
	s.do(t, http.MethodPost, "short/roles/web", `{"allow_any_name":true,"require_cn":false,"key_type":"any","key_usage":"DigitalSignature","client_flag":false}`)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	b := s.newBackend(t, tokenAuth(), tokenSecret(rootToken), withPath("short"), withClock(clock))
	end, err := b.NotAfter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := b.Sign(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := chain[0].NotAfter; got.After(end) || got.Before(end.Add(-time.Minute)) {
		t.Errorf("the leaf lives until %s, and its CA until %s", got, end)
	}
	clock.SetTime(end)
	_, err = b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultCAExpired", "Vault's issuing CA expired at")
	wantReason(t, b.Check(t.Context()), "VaultCAExpired", "renew it")
}
