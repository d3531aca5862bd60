// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

const (
	vaultRole   = "workloads"
	vaultSecret = "7d1f6a52-3f4c-4e0e-9f0e-2f3a7c1d9b11" // the secret ID of the role, of a server that lives for minutes
)

// vault is a real Vault with a PKI secrets engine and an AppRole.
type vault struct {
	address string
	dir     string
	client  *http.Client
	gone    int // how many certificates were issued before it was emptied
}

func TestVault(t *testing.T) {
	run(t, "vault", func(t *testing.T, c *cluster) system {
		v := &vault{address: servers.Address(t), dir: t.TempDir()}
		process := servers.Start(t, servers.Spec{
			Path: servers.Build(t, "vault", "./vaultd"), Args: []string{"-listen", v.address, "-dir", v.dir, "-persistent"},
			ReadyLine: func(line string) bool { return strings.HasPrefix(line, "ready:") },
		})
		text, err := os.ReadFile(filepath.Join(v.dir, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		v.client = &http.Client{Transport: &http.Transport{TLSClientConfig: config.Clone(), DisableKeepAlives: true}, Timeout: 10 * time.Second}
		v.configure(t)
		proxy := faultproxy.Start(t, "https://"+v.address, config)
		c.setSecret(t, "vault", corev1.SecretTypeOpaque, map[string][]byte{"secret-id": []byte(vaultSecret)})
		return system{
			process: process, proxy: proxy, issuer: "Vault", issued: v.issued,
			faults: []fault{
				{name: "token revoked", begin: v.revoke, end: func(*testing.T) {}},
				{name: "emptied", begin: func(t *testing.T) { v.empty(t, process) }, end: v.configure},
			},
			backend: v1alpha1.Backend{
				Name: "vault", Timeout: metav1.Duration{Duration: 5 * time.Second},
				Vault: &v1alpha1.Vault{
					Server: v1alpha1.Server{URL: proxy.URL, CABundle: proxy.CA}, Path: "pki", Role: vaultRole,
					Auth: v1alpha1.VaultAuth{AppRole: &v1alpha1.VaultAppRoleAuth{
						Path: "approle", RoleID: vaultRole, SecretIDRef: v1alpha1.SecretKeyRef{Name: "vault", Key: "secret-id"},
					}},
				},
			},
		}
	})
}

// configure sets up an empty Vault.
func (v *vault) configure(t *testing.T) {
	t.Helper()
	for _, step := range []struct {
		path string
		body map[string]any
	}{
		{"sys/mounts/pki", map[string]any{"type": "pki", "config": map[string]any{"max_lease_ttl": "48h"}}},
		{"pki/root/generate/internal", map[string]any{"common_name": "Vault root", "key_type": "ec", "key_bits": 256, "ttl": "48h"}},
		{"pki/roles/" + vaultRole, map[string]any{
			"allow_any_name": true, "key_type": "any", "require_cn": false, "max_ttl": "24h", "key_usage": []string{"DigitalSignature"},
		}},
		{"sys/policies/acl/certwright", map[string]any{"policy": `
			path "pki/sign/workloads" { capabilities = ["update"] }
			path "pki/roles/workloads" { capabilities = ["read"] }`}},
		{"sys/auth/approle", map[string]any{"type": "approle"}},
		{"auth/approle/role/" + vaultRole, map[string]any{"token_policies": "certwright", "token_ttl": "1h"}},
		{"auth/approle/role/" + vaultRole + "/role-id", map[string]any{"role_id": vaultRole}},
		{"auth/approle/role/" + vaultRole + "/custom-secret-id", map[string]any{"secret_id": vaultSecret}},
	} {
		v.call(t, http.MethodPost, step.path, step.body)
	}
}

// empty has it lose all that it knows. It counts first.
func (v *vault) empty(t *testing.T, process *servers.Process) {
	t.Helper()
	gone := v.issued(t)
	process.Kill()
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "ca.") {
			continue // of its transport
		}
		if err := os.RemoveAll(filepath.Join(v.dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	v.gone = gone
	process.Restart(t)
}

// revoke revokes all tokens of the AppRole.
func (v *vault) revoke(t *testing.T) {
	t.Helper()
	for _, accessor := range v.list(t, "auth/token/accessors") {
		var token struct{ Data struct{ Path string } }
		if err := json.Unmarshal(v.call(t, http.MethodPost, "auth/token/lookup-accessor", map[string]any{"accessor": accessor}), &token); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(token.Data.Path, "auth/approle") {
			v.call(t, http.MethodPost, "auth/token/revoke-accessor", map[string]any{"accessor": accessor})
		}
	}
}

// issued returns how many certificates it ever issued to others.
func (v *vault) issued(t *testing.T) int {
	t.Helper()
	return v.gone + len(v.list(t, "pki/certs")) - 1 // the root is one of them
}

func (v *vault) list(t *testing.T, path string) []string {
	t.Helper()
	var answer struct{ Data struct{ Keys []string } }
	if err := json.Unmarshal(v.call(t, "LIST", path, nil), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data.Keys
}

func (v *vault) call(t *testing.T, method, path string, body any) []byte {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("https://%s/v1/%s", v.address, path), bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Vault-Token", "root")
	answer, err := v.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s (%v)", method, path, answer.Status, text, err)
	}
	return text
}
