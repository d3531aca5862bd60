// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest"
)

// What a role forbids is a verdict that names the field and quotes Vault, whether the role takes names from the request or
// from the API.
func TestRolesThatForbid(t *testing.T) {
	s := newVault(t)
	token := tokenSecret(s.newToken(t, ""))
	spiffe := []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/web"}}
	for name, c := range map[string]struct {
		role     map[string]any
		key      string
		template x509.CertificateRequest
		usages   []certificatesv1.KeyUsage
		want     string
	}{
		"DNS name": {
			role:     map[string]any{"allow_any_name": false, "allowed_domains": "shop.example.com", "allow_subdomains": true},
			template: x509.CertificateRequest{DNSNames: []string{"bank.example.org"}},
			want:     "dnsNames: Vault's role %q refuses it: subject alternate name bank.example.org not allowed by this role",
		},
		"long DNS name": {
			role:     map[string]any{"allow_any_name": false, "allowed_domains": "shop.example.com"},
			template: x509.CertificateRequest{DNSNames: []string{longName}},
			want:     "dnsNames: Vault's role %q refuses it: subject alternate name aaa",
		},
		"wildcard": {
			role:     map[string]any{"allow_wildcard_certificates": false},
			template: x509.CertificateRequest{DNSNames: []string{"*.example.org"}}, want: "dnsNames: Vault's role %q refuses it: subject alternate name *.example.org",
		},
		"common name": {
			role:     map[string]any{"allow_any_name": false, "allowed_domains": "example.com", "allow_subdomains": true, "cn_validations": "hostname", "enforce_hostnames": true},
			template: x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:worker-1"}, DNSNames: []string{"a.example.com"}},
			want:     "commonName: Vault's role %q refuses it: common name system:node:worker-1 not allowed by this role",
		},
		"no common name": {
			role:     map[string]any{"require_cn": true},
			template: x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, want: "commonName: Vault's role %q refuses it: the common_name field is required",
		},
		"IP address": {
			role:     map[string]any{"allow_ip_sans": false},
			template: x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(198, 18, 0, 7)}}, want: "ipAddresses: Vault's role %q refuses it: IP Subject Alternative Names are not allowed in this role",
		},
		"any URI": {
			role:     map[string]any{"allowed_uri_sans": ""},
			template: x509.CertificateRequest{URIs: spiffe}, want: "uris: Vault's role %q refuses it: URI Subject Alternative Names are not allowed in this role",
		},
		"this URI": {
			role:     map[string]any{"allowed_uri_sans": "spiffe://other.example/*"},
			template: x509.CertificateRequest{URIs: spiffe}, want: "uris: Vault's role %q refuses it: URI Subject Alternative Names were provided via",
		},
		"email address": {
			role:     map[string]any{"allow_any_name": false, "allowed_domains": "shop.example.com"},
			template: x509.CertificateRequest{EmailAddresses: []string{"ops@bank.example.org"}}, want: "emailAddresses: Vault's role %q refuses it: email address ops@bank.example.org not allowed by this role",
		},
		"serial number": {
			role:     map[string]any{"allowed_serial_numbers": ""},
			template: x509.CertificateRequest{Subject: pkix.Name{SerialNumber: "42"}, DNSNames: []string{"a.example.com"}}, want: "serialNumbers: Vault's role %q refuses it: serial_number 42 not allowed by this role",
		},
		"kind of key": {
			role:     map[string]any{"key_type": "rsa", "key_bits": 2048},
			template: x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, want: "key: Vault's role %q refuses it: role requires keys of type rsa",
		},
		"size of key": {
			role: map[string]any{"key_type": "rsa", "key_bits": 4096}, key: "RSA-2048",
			template: x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, want: "key: Vault's role %q refuses it: role requires a minimum of a 4096-bit key",
		},
		"a role with an organization": {
			role:     map[string]any{"organization": "Shop"},
			template: x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, want: `organizations: requested is [], and Vault's role %q gives ["Shop"]`,
		},
		"a role with more usages": {
			role:     map[string]any{"key_usage": "DigitalSignature,KeyAgreement", "client_flag": true},
			template: x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, want: `gives ["key agreement" "client auth"], too`,
		},
	} {
		for _, fromAPI := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				role := strings.ReplaceAll(name, " ", "-")
				settings := map[string]any{"use_csr_common_name": !fromAPI, "use_csr_sans": !fromAPI}
				for k, v := range c.role {
					settings[k] = v
				}
				s.role(t, role, settings)
				b := s.newBackend(t, tokenAuth(), token, withRole(role))
				if c.key == "" {
					c.key = "ECDSA-P256"
				}
				_, err := b.Sign(t.Context(), signertest.Request(t, signertest.Key(t, c.key), &c.template, roleUsages, time.Hour))
				var permanent *signer.PermanentError
				if want := strings.ReplaceAll(c.want, "%q", `"`+role+`"`); !errors.As(err, &permanent) || !strings.Contains(err.Error(), want) {
					t.Errorf("got the error %v, want a *signer.PermanentError with %q", err, want)
				}
			})
		}
	}
}

// longName is as long as a DNS name may be: longer than what is quoted of Vault's words about it.
var longName = strings.Repeat(strings.Repeat("a", 49)+".", 5) + "exa"

// Who finds a request that Vault refuses in words of its own takes the backend from nobody.
func TestOtherWordsAreThatRequestsAlone(t *testing.T) {
	var s *vaultServer
	s = impostor(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/pki/issuer/default/json":
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"certificate": s.ca}})
		case "/v1/pki/sign/web":
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{"cannot satisfy request, as TTL would result in notAfter beyond the expiration of the CA"}})
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	_, err := s.newBackend(t, tokenAuth(), tokenSecret(secretToken)).Sign(t.Context(), request(t))
	var own *signer.RequestError
	if !errors.As(err, &own) || !strings.Contains(err.Error(), "beyond the expiration of the CA") {
		t.Errorf("got the error %v, want a *signer.RequestError with Vault's words", err)
	}
}

// Who asks for a name that looks like one of Vault's reasons gets no other verdict by it.
func TestNamesThatLookLikeReasons(t *testing.T) {
	s := newVault(t)
	s.role(t, "strict", map[string]any{"allow_any_name": false, "allowed_domains": "shop.example.com", "cn_validations": "hostname", "enforce_hostnames": true})
	b := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")), withRole("strict"))
	for _, name := range []string{"unknown role: strict", "could not fetch the CA certificate", "no default issuer"} {
		_, err := b.Sign(t.Context(), signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, roleUsages, time.Hour))
		var permanent *signer.PermanentError
		if !errors.As(err, &permanent) {
			t.Errorf("common name %q: got the error %v, want a *signer.PermanentError", name, err)
		}
	}
}

// What is wrong with Vault, its configuration or ours is trouble for all requests, with the reason.
func TestTrouble(t *testing.T) {
	s := newVault(t)
	good := s.newToken(t, "")
	s.do(t, http.MethodPost, "sys/policies/acl/all", `{"policy":"path \"*\" { capabilities = [\"update\", \"read\"] }"}`)
	all := s.newToken(t, `,"policies":["all"]`)
	s.do(t, http.MethodPost, "sys/mounts/empty", `{"type":"pki"}`)
	s.do(t, http.MethodPost, "empty/roles/web", `{"allow_any_name":true}`)
	for name, c := range map[string]struct {
		token       string
		set         setting
		sign, check string // the reasons
	}{
		"no such role":          {good, withRole("absent"), "VaultRoleNotFound", "VaultRoleNotFound"},
		"no such engine":        {all, withPath("absent"), "VaultPathNotFound", "VaultPathNotFound"},
		"no such engine either": {good, withPath("absent"), "VaultPathNotFound", "VaultPermissionDenied"},
		"an engine without CA":  {all, withPath("empty"), "VaultIssuerNotFound", "VaultIssuerNotFound"},
		"no such token":         {"hvs.nobody", withRole("web"), "VaultPermissionDenied", "VaultTokenRefused"},
		"nobody there":          {good, withURL("https://127.0.0.1:1"), "VaultUnreachable", "VaultUnreachable"},
		"another name":          {good, withServerName("other.example.com"), "VaultUnreachable", "VaultUnreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.newBackend(t, tokenAuth(), tokenSecret(c.token), c.set)
			_, err := b.Sign(t.Context(), request(t))
			wantReason(t, err, c.sign, "")
			err = b.Check(t.Context())
			wantReason(t, err, c.check, "")
			if err != nil && strings.Contains(err.Error(), c.token) {
				t.Errorf("the error holds the token: %v", err)
			}
		})
	}
}

// What goes wrong after the start is noticed by the check as well.
func TestRoleThatGoesAway(t *testing.T) {
	s := newVault(t)
	b := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")))
	mustSign(t, b)
	s.do(t, http.MethodDelete, "pki/roles/web", "")
	wantReason(t, b.Check(t.Context()), "VaultRoleNotFound", `create the role "web"`)
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultRoleNotFound", `Vault answered 400 at pki/sign/web: unknown role: web: create the role "web" at pki/roles/web`)
	s.role(t, "web", nil)
	mustSign(t, b)
}

func TestSealedAndUnsealed(t *testing.T) {
	s := newVault(t)
	b := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")))
	mustSign(t, b)
	anchors, err := b.TrustAnchors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.seal(t)
	_, err = b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultSealed", "Vault is sealed")
	wantReason(t, b.Check(t.Context()), "VaultSealed", "Vault is sealed: unseal it")
	if still, err := b.TrustAnchors(t.Context()); err != nil || len(still) != 1 || !still[0].Equal(anchors[0]) {
		t.Errorf("while Vault is sealed, the trust anchors are %v with the error %v", still, err)
	}
	s.unseal(t)
	eventually(t, "it signs again", func() bool {
		_, err := b.Sign(t.Context(), request(t))
		return err == nil
	})
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("Check after unsealing: %v", err)
	}
}

func TestRateLimit(t *testing.T) {
	s := newVault(t)
	b := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")))
	mustSign(t, b)
	s.do(t, http.MethodPost, "sys/quotas/rate-limit/pki", `{"path":"pki","rate":1,"interval":"1h"}`)
	mustSign(t, b)
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultRateLimited", "Vault answered 429 at pki/sign/web")
}

func TestStandbyThatDoesNotForward(t *testing.T) {
	standby := servers.Address(t)
	s := newVault(t, "-standby", standby)
	b := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")), withURL("https://"+standby))
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultUnreachable", "the server redirects to another host, which is never followed, as credentials travel along: "+s.url)
}
