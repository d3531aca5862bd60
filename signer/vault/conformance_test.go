// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/vault"
)

// cannot is what no role of Vault's does: it has its own subject and its own usages.
var cannot = signertest.Cannot{
	Fields:      []string{"organizations", "organizationalUnits", "countries", "provinces", "localities", "streetAddresses", "postalCodes"},
	OtherUsages: roleUsages,
}

func TestConformance(t *testing.T) {
	s := newVault(t)
	s.role(t, "api", map[string]any{"use_csr_common_name": false, "use_csr_sans": false})
	s.do(t, http.MethodPost, "sys/policies/acl/least", `{"policy":"path \"pki/sign/web\" { capabilities = [\"update\"] }"}`)
	subject := func(w world) signertest.Subject {
		return signertest.Subject{Backend: w, Clock: w.clock, Cannot: cannot, MaxDuration: 1000 * time.Hour}
	}
	for name, start := range map[string]func(t *testing.T) signertest.Subject{
		"token": func(t *testing.T) signertest.Subject {
			return subject(s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, ""))))
		},
		"token with the least policy": func(t *testing.T) signertest.Subject {
			return subject(s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, `,"policies":["least"]`))))
		},
		"names from the API": func(t *testing.T) signertest.Subject {
			return subject(s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")), withRole("api")))
		},
		"AppRole": func(t *testing.T) signertest.Subject {
			auth, secret := s.appRole(t, "1h", "10h")
			return subject(s.newBackend(t, auth, secret))
		},
		"certificate": func(t *testing.T) signertest.Subject {
			auth, secret := s.certificateAuth(t)
			return subject(s.newBackend(t, auth, secret))
		},
		"Kubernetes": func(t *testing.T) signertest.Subject {
			auth, dir := s.kubernetesAuth(t)
			return subject(s.newBackend(t, auth, nil, func(o *vault.Options) { o.TokenDir = dir }))
		},
	} {
		t.Run(name, func(t *testing.T) { signertest.Run(t, start) })
	}
}

// appRole sets up a login with a role ID and a secret ID, whose tokens live so long, and at most so long with renewals.
func (s *vaultServer) appRole(t *testing.T, ttl, maxTTL string) (v1alpha1.VaultAuth, *corev1.Secret) {
	t.Helper()
	s.try(t, http.MethodPost, "sys/auth/approle", `{"type":"approle"}`)
	s.do(t, http.MethodPost, "auth/approle/role/certwright", `{"token_policies":"certwright","token_ttl":"`+ttl+`","token_max_ttl":"`+maxTTL+`"}`)
	id := s.do(t, http.MethodGet, "auth/approle/role/certwright/role-id", "")["role_id"].(string)
	secret := s.do(t, http.MethodPost, "auth/approle/role/certwright/secret-id", "")["secret_id"].(string)
	return v1alpha1.VaultAuth{AppRole: &v1alpha1.VaultAppRoleAuth{RoleID: id, SecretIDRef: v1alpha1.SecretKeyRef{Name: "approle", Key: "secretID"}}},
		newSecret("approle", "secretID", secret)
}

// certificateAuth sets up a login with a client certificate.
func (s *vaultServer) certificateAuth(t *testing.T) (v1alpha1.VaultAuth, *corev1.Secret) {
	t.Helper()
	cert, key := clientCertificate(t)
	s.try(t, http.MethodPost, "sys/auth/cert", `{"type":"cert"}`)
	body, err := json.Marshal(map[string]string{"certificate": cert, "token_policies": "certwright"})
	if err != nil {
		t.Fatal(err)
	}
	s.do(t, http.MethodPost, "auth/cert/certs/certwright", string(body))
	return v1alpha1.VaultAuth{Certificate: &v1alpha1.VaultCertificateAuth{Role: "certwright", SecretRef: v1alpha1.SecretRef{Name: "client"}}},
		newSecret("client", "tls.crt", cert, "tls.key", key)
}

func clientCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	k := signertest.Key(t, "ECDSA-P256")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "certwright"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// kubernetesAuth sets up a login with a service account's token. It returns the folder with the token.
func (s *vaultServer) kubernetesAuth(t *testing.T) (v1alpha1.VaultAuth, string) {
	t.Helper()
	s.try(t, http.MethodPost, "sys/auth/kubernetes", `{"type":"kubernetes"}`)
	s.do(t, http.MethodPost, "auth/kubernetes/role/certwright",
		`{"bound_service_account_names":"certwright-signer","bound_service_account_namespaces":"certwright-system","audience":"vault","token_policies":"certwright","token_ttl":"1h"}`)
	return s.standInReviewer(t)
}

// standInReviewer has Vault ask a stand-in for the API server that answers TokenReviews: the whole way is taken in e2e. It returns
// the login, and the folder with the token.
func (s *vaultServer) standInReviewer(t *testing.T) (v1alpha1.VaultAuth, string) {
	t.Helper()
	jwt := serviceAccountToken(t)
	reviewer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct{ Token string }
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" {
			t.Errorf("Vault asked for %s with the error %v", r.URL.Path, err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
			"status": map[string]any{"authenticated": review.Spec.Token == jwt, "audiences": []string{"vault"}, "user": map[string]any{
				"username": "system:serviceaccount:certwright-system:certwright-signer", "uid": "6f1d8a52", "groups": []string{"system:serviceaccounts"},
			}},
		})
	}))
	t.Cleanup(reviewer.Close)
	config, err := json.Marshal(map[string]any{"kubernetes_host": reviewer.URL, "kubernetes_ca_cert": encode(reviewer.Certificate()), "token_reviewer_jwt": jwt, "disable_local_ca_jwt": true})
	if err != nil {
		t.Fatal(err)
	}
	s.do(t, http.MethodPost, "auth/kubernetes/config", string(config))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vault"), []byte(jwt+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return v1alpha1.VaultAuth{Kubernetes: &v1alpha1.VaultKubernetesAuth{Role: "certwright"}}, dir
}

// serviceAccountToken is a JWT with the claims of a projected token.
func serviceAccountToken(t *testing.T) string {
	t.Helper()
	segment := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := time.Now().Unix()
	text := segment(map[string]string{"alg": "ES256", "typ": "JWT"}) + "." + segment(map[string]any{
		"iss": "https://kubernetes.default.svc", "aud": []string{"vault"}, "sub": "system:serviceaccount:certwright-system:certwright-signer", "iat": now, "nbf": now, "exp": now + 3600,
		"kubernetes.io": map[string]any{"namespace": "certwright-system", "serviceaccount": map[string]string{"name": "certwright-signer", "uid": "6f1d8a52"}},
	})
	digest := sha256.Sum256([]byte(text))
	r, sig, err := ecdsa.Sign(rand.Reader, signertest.Key(t, "ECDSA-P256").(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), sig.FillBytes(make([]byte, 32))...))
}
