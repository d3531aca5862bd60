// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/vault"
)

const rootToken = "root"

// vaultServer is a real Vault, with a PKI secrets engine at pki below another one, and a role web there.
type vaultServer struct {
	*servers.Process
	url, ca string
	client  *http.Client
}

func startVault(t *testing.T, args ...string) *vaultServer {
	t.Helper()
	address, dir := servers.Address(t), t.TempDir()
	p := servers.Start(t, servers.Spec{
		Path:      servers.Build(t, "vault", "./vaultd"),
		Args:      append([]string{"-listen", address, "-dir", dir, "-root-token", rootToken, "-log-level", "error"}, args...),
		ReadyLine: func(line string) bool { return strings.HasPrefix(line, "ready: ") },
	})
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	s := &vaultServer{Process: p, url: "https://" + address, ca: string(ca)}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	return s
}

// newVault starts a Vault in which everything is set up.
func newVault(t *testing.T, args ...string) *vaultServer {
	t.Helper()
	s := startVault(t, args...)
	s.setUp(t)
	return s
}

func (s *vaultServer) setUp(t *testing.T) {
	t.Helper()
	for _, mount := range []string{"top", "pki"} {
		s.do(t, http.MethodPost, "sys/mounts/"+mount, `{"type":"pki","config":{"max_lease_ttl":"87600h"}}`)
	}
	root := s.do(t, http.MethodPost, "top/root/generate/internal", `{"common_name":"Test Root","key_type":"ec","ttl":"87600h"}`)
	request := s.do(t, http.MethodPost, "pki/intermediate/generate/internal", `{"common_name":"Test Issuing CA","key_type":"ec"}`)
	body, err := json.Marshal(map[string]any{"csr": request["csr"], "common_name": "Test Issuing CA", "ttl": "43800h", "format": "pem"})
	if err != nil {
		t.Fatal(err)
	}
	issuing := s.do(t, http.MethodPost, "top/root/sign-intermediate", string(body))
	body, err = json.Marshal(map[string]any{"certificate": issuing["certificate"].(string) + "\n" + root["certificate"].(string)})
	if err != nil {
		t.Fatal(err)
	}
	s.do(t, http.MethodPost, "pki/intermediate/set-signed", string(body))
	s.role(t, "web", nil)
	s.do(t, http.MethodPost, "sys/policies/acl/certwright", `{"policy":"path \"pki/sign/+\" { capabilities = [\"update\"] } path \"pki/roles/+\" { capabilities = [\"read\"] }"}`)
}

// roleUsages are those that roles give here.
var roleUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}

// role makes a role that allows everything but what the settings say.
func (s *vaultServer) role(t *testing.T, name string, settings map[string]any) {
	t.Helper()
	all := map[string]any{
		"allow_any_name": true, "enforce_hostnames": false, "cn_validations": "disabled", "require_cn": false, "allowed_uri_sans": "*",
		"allowed_serial_numbers": "*", "key_type": "any", "key_usage": "DigitalSignature", "server_flag": true, "client_flag": false,
		"basic_constraints_valid_for_non_ca": true, "max_ttl": "2000h",
	}
	for k, v := range settings {
		all[k] = v
	}
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	s.do(t, http.MethodPost, "pki/roles/"+name, string(body))
}

// do calls Vault's API with the root token, and returns the answer's data, or its auth.
func (s *vaultServer) do(t testing.TB, verb, path, body string) map[string]any {
	t.Helper()
	code, answer := s.try(t, verb, path, body)
	if code/100 != 2 {
		t.Fatalf("%s %s: %d %v", verb, path, code, answer)
	}
	for _, key := range []string{"auth", "data"} {
		if m, ok := answer[key].(map[string]any); ok {
			return m
		}
	}
	return answer
}

func (s *vaultServer) try(t testing.TB, verb, path, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), verb, s.url+"/v1/"+path, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", rootToken)
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", verb, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := map[string]any{}
	_ = json.Unmarshal(text, &answer) // what has no content is no JSON
	return resp.StatusCode, answer
}

// newToken makes a token with the policy that a backend needs.
func (s *vaultServer) newToken(t testing.TB, settings string) string {
	t.Helper()
	return s.do(t, http.MethodPost, "auth/token/create", `{"policies":["certwright"],"no_parent":true`+settings+`}`)["client_token"].(string)
}

var unsealKey = regexp.MustCompile(`unseal key: ([0-9a-f]+)`)

func (s *vaultServer) seal(t *testing.T) {
	t.Helper()
	s.do(t, http.MethodPut, "sys/seal", "")
}

// unseal unseals, and waits until Vault is active.
func (s *vaultServer) unseal(t *testing.T) {
	t.Helper()
	s.do(t, http.MethodPut, "sys/unseal", `{"key":"`+unsealKey.FindStringSubmatch(s.Output())[1]+`"}`)
	eventually(t, "Vault is active", func() bool {
		code, _ := s.try(t, http.MethodGet, "sys/health", "")
		return code == http.StatusOK
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it does not come to pass: %s", what)
		}
	}
}

// world is a backend with its Secrets.
type world struct {
	*vault.Backend
	secrets client.Client
	clock   clock.PassiveClock
}

type setting func(*vault.Options)

func withClock(c clock.PassiveClock) setting { return func(o *vault.Options) { o.Clock = c } }
func withRole(role string) setting           { return func(o *vault.Options) { o.Vault.Role = role } }
func withURL(url string) setting             { return func(o *vault.Options) { o.Vault.URL = url } }
func withPath(path string) setting           { return func(o *vault.Options) { o.Vault.Path = path } }

func withNamespace(name string) setting { return func(o *vault.Options) { o.Vault.Namespace = name } }

func withServerName(name string) setting { return func(o *vault.Options) { o.Vault.ServerName = name } }

// tokenAuth is a login with the token in the Secret vault.
func tokenAuth() v1alpha1.VaultAuth {
	return v1alpha1.VaultAuth{TokenSecretRef: &v1alpha1.SecretKeyRef{Name: "vault", Key: "token"}}
}

func tokenSecret(value string) *corev1.Secret { return newSecret("vault", "token", value) }

func newSecret(name string, pairs ...string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "certwright", Name: name}, Data: map[string][]byte{}}
	for i := 0; i < len(pairs); i += 2 {
		s.Data[pairs[i]] = []byte(pairs[i+1])
	}
	return s
}

// newBackend makes a backend for the role web of the server.
func (s *vaultServer) newBackend(t testing.TB, auth v1alpha1.VaultAuth, secret *corev1.Secret, settings ...setting) world {
	t.Helper()
	builder := fake.NewClientBuilder()
	if secret != nil {
		builder = builder.WithObjects(secret)
	}
	w := world{secrets: builder.Build(), clock: clock.RealClock{}}
	o := vault.Options{
		Client: w.secrets, Namespace: "certwright", Clock: w.clock,
		Vault: v1alpha1.Vault{Server: v1alpha1.Server{URL: s.url, CABundle: s.ca}, Role: "web", Auth: auth},
	}
	for _, set := range settings {
		set(&o)
	}
	b, err := vault.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	w.Backend, w.clock = b, o.Clock
	return w
}

func (w world) replace(t *testing.T, secret *corev1.Secret) {
	t.Helper()
	if err := w.secrets.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

// request asks for a certificate that the role web gives.
func request(t testing.TB, names ...string) csr.Request {
	t.Helper()
	if len(names) == 0 {
		names = []string{"web.example.com"}
	}
	return signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: names}, roleUsages, time.Hour)
}

func encode(certs ...*x509.Certificate) string { return string(signer.EncodePEM(certs...)) }
