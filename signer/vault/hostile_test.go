// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/vault"
)

// impostor is a server that answers what it likes.
func impostor(t testing.TB, handler http.HandlerFunc) *vaultServer {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	return &vaultServer{url: s.URL, ca: encode(s.Certificate()), client: s.Client()}
}

const secretToken = "hvs.a-token-that-nobody-else-may-see"

// Whatever a server answers, its words get into an error only shortened and on one line, and what it was told not at all.
func TestHostileAnswers(t *testing.T) {
	reflect := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{"token " + r.Header.Get("X-Vault-Token"), strings.Repeat("\x1b[31m\n", 5000)}})
	}
	for name, handler := range map[string]http.HandlerFunc{
		"says the token back": reflect,
		"says the token back and no": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{"common name " + r.Header.Get("X-Vault-Token") + " not allowed by this role"}})
		},
		"errors of another type": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"errors":{"a":1}}`))
		},
		"data of another type": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":[1,2]}`)) },
		"a deep document": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(`{"data":`, 50000)))
		},
		"a thousand certificates": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data":{"certificate":"","ca_chain":["` + strings.Repeat(`-----BEGIN CERTIFICATE-----\n","`, 1000) + `"]}}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := impostor(t, handler)
			b := s.newBackend(t, tokenAuth(), tokenSecret(secretToken))
			_, err := b.Sign(t.Context(), request(t))
			for _, err := range []error{err, b.Check(t.Context())} {
				if err == nil {
					t.Error("there is no error")
					continue
				}
				if text := err.Error(); len(text) > 1000 || strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, secretToken) {
					t.Errorf("the error is %d bytes long: %.600q", len(text), text)
				}
			}
		})
	}
}

// The answer that says yes may only lack certificates by mistake, never by a panic.
func FuzzAnswer(f *testing.F) {
	real := `{"data":{"certificate":"-----BEGIN CERTIFICATE-----\n","issuing_ca":"","ca_chain":[]}}`
	f.Add([]byte(real), 200)
	f.Add([]byte(`{"errors":["unknown role: web"]}`), 400)
	f.Add([]byte(`{"errors":["common name x not allowed by this role"]}`), 400)
	f.Add([]byte(`{"auth":{"client_token":"x","lease_duration":-1}}`), 200)
	var body []byte
	var code int
	s := impostor(f, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write(body)
	})
	b := s.newBackend(f, tokenAuth(), tokenSecret(secretToken))
	req := request(f)
	f.Fuzz(func(t *testing.T, text []byte, status int) {
		if status < 200 || status > 599 || status/100 == 3 {
			return
		}
		body, code = text, status
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := b.Sign(ctx, req)
		var permanent *signer.PermanentError
		if err == nil || (errors.As(err, &permanent) && status != http.StatusBadRequest) || len(fmt.Sprint(err)) > 2000 {
			t.Errorf("status %d and %q: got the error %v", status, text, err)
		}
	})
}

// The same holds for what a login shows.
func TestHostileLogin(t *testing.T) {
	s := impostor(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var fields map[string]string
		_ = json.Unmarshal(body, &fields)
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{fields["jwt"] + fields["secret_id"] + string(body)}})
	})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vault"), []byte(secretToken), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := v1alpha1.SecretKeyRef{Name: "vault", Key: "token"}
	for name, auth := range map[string]v1alpha1.VaultAuth{
		"Kubernetes": {Kubernetes: &v1alpha1.VaultKubernetesAuth{Role: "certwright"}},
		"AppRole":    {AppRole: &v1alpha1.VaultAppRoleAuth{RoleID: "certwright", SecretIDRef: ref}},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.newBackend(t, auth, tokenSecret(secretToken), func(o *vault.Options) { o.TokenDir = dir })
			_, err := b.Sign(t.Context(), request(t))
			wantReason(t, err, "VaultLoginFailed", "[redacted]")
			if strings.Contains(err.Error(), secretToken) {
				t.Errorf("the error holds what was shown: %v", err)
			}
		})
	}
}

func TestNamespaceHeader(t *testing.T) {
	got := map[string]string{}
	s := impostor(t, func(w http.ResponseWriter, r *http.Request) {
		got[r.URL.Path] = r.Header.Get("X-Vault-Namespace")
		switch r.URL.Path {
		case "/v1/sys/health":
			w.WriteHeader(http.StatusOK)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b := s.newBackend(t, tokenAuth(), tokenSecret(secretToken), withNamespace("team/prod/"))
	wantReason(t, b.Check(t.Context()), "VaultUnavailable", "Vault answered 503 at auth/token/lookup-self")
	if got["/v1/auth/token/lookup-self"] != "team/prod" || got["/v1/sys/health"] != "" {
		t.Errorf("the namespaces of the calls are %q", got)
	}
}

// The client library of Vault takes its settings from the environment; nothing here does.
func TestEnvironmentIsOfNoInterest(t *testing.T) {
	asked := false
	s := impostor(t, func(w http.ResponseWriter, r *http.Request) {
		asked = true
		if r.Header.Get("X-Vault-Token") != secretToken || r.Header.Get("X-Vault-Namespace") != "" {
			t.Errorf("the headers are %q", r.Header)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	for name, value := range map[string]string{
		"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_AGENT_ADDR": "https://127.0.0.1:1", "VAULT_TOKEN": "other", "VAULT_NAMESPACE": "other",
		"VAULT_SKIP_VERIFY": "true", "VAULT_PROXY_ADDR": "http://127.0.0.1:1", "VAULT_HTTP_PROXY": "http://127.0.0.1:1", "VAULT_CACERT": "/nonexistent",
	} {
		t.Setenv(name, value)
	}
	b := s.newBackend(t, tokenAuth(), tokenSecret(secretToken))
	_, err := b.Sign(t.Context(), request(t))
	wantReason(t, err, "VaultUnavailable", "Vault answered 503")
	if !asked {
		t.Error("the configured server was not asked")
	}
	s.ca = ""
	_, err = s.newBackend(t, tokenAuth(), tokenSecret(secretToken)).Sign(t.Context(), request(t))
	wantReason(t, err, "VaultUnreachable", "unknown authority")
}
