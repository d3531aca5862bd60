// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/vault"
)

func newFrom(change func(*v1alpha1.Vault)) error {
	o := vault.Options{
		Client: fake.NewClientBuilder().Build(), Namespace: "certwright", TokenDir: "/tokens",
		Vault: v1alpha1.Vault{Server: v1alpha1.Server{URL: "https://vault.example.com:8200"}, Role: "web", Auth: tokenAuth()},
	}
	change(&o.Vault)
	_, err := vault.New(o)
	return err
}

// Whatever is part of a path must stay where it stands.
func TestPathsThatLeadElsewhere(t *testing.T) {
	fields := map[string]func(*v1alpha1.Vault, string){
		"vault.path":      func(v *v1alpha1.Vault, s string) { v.Path = s },
		"vault.role":      func(v *v1alpha1.Vault, s string) { v.Role = s },
		"vault.namespace": func(v *v1alpha1.Vault, s string) { v.Namespace = s },
		"vault.auth.kubernetes.path": func(v *v1alpha1.Vault, s string) {
			v.Auth = v1alpha1.VaultAuth{Kubernetes: &v1alpha1.VaultKubernetesAuth{Path: s, Role: "certwright"}}
		},
		"vault.auth.kubernetes.audience": func(v *v1alpha1.Vault, s string) {
			v.Auth = v1alpha1.VaultAuth{Kubernetes: &v1alpha1.VaultKubernetesAuth{Audience: s, Role: "certwright"}}
		},
		"vault.auth.appRole.path": func(v *v1alpha1.Vault, s string) {
			v.Auth = v1alpha1.VaultAuth{AppRole: &v1alpha1.VaultAppRoleAuth{Path: s, RoleID: "id", SecretIDRef: v1alpha1.SecretKeyRef{Name: "n", Key: "k"}}}
		},
		"vault.auth.certificate.path": func(v *v1alpha1.Vault, s string) {
			v.Auth = v1alpha1.VaultAuth{Certificate: &v1alpha1.VaultCertificateAuth{Path: s, SecretRef: v1alpha1.SecretRef{Name: "n"}}}
		},
	}
	for field, set := range fields {
		for _, bad := range []string{
			"..", ".", "../sys", "pki/../../sys/raw", "pki/..", "a//b", "pki/./x", "a%2fb", "%2e%2e", "pki?x=y", "pki#x", `pki\x`, "pki x", "pki\nx", "pki\x00x", "p:q", "https://evil.example.com", "ä", ";x", ".hidden",
		} {
			if err := newFrom(func(v *v1alpha1.Vault) { set(v, bad) }); err == nil || !strings.Contains(err.Error(), field+": ") {
				t.Errorf("%s: %q: got the error %v, want one that names the field", field, bad, err)
			}
		}
		for _, good := range []string{"pki", "pki_int-2", "v1.2", "web@example.com"} {
			if err := newFrom(func(v *v1alpha1.Vault) { set(v, good) }); err != nil {
				t.Errorf("%s: %q: %v", field, good, err)
			}
		}
	}
	for _, field := range []string{"vault.role", "vault.auth.kubernetes.audience"} {
		if err := newFrom(func(v *v1alpha1.Vault) { fields[field](v, "a/b") }); err == nil {
			t.Errorf("%s: a/b is taken", field)
		}
	}
	for _, field := range []string{"vault.path", "vault.namespace", "vault.auth.kubernetes.path"} {
		if err := newFrom(func(v *v1alpha1.Vault) { fields[field](v, "teams/shop/pki") }); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestConfigurationErrorsNameTheField(t *testing.T) {
	auth := func(a v1alpha1.VaultAuth) func(*v1alpha1.Vault) { return func(v *v1alpha1.Vault) { v.Auth = a } }
	for name, c := range map[string]struct {
		change func(*v1alpha1.Vault)
		want   string
	}{
		"plain HTTP":         {func(v *v1alpha1.Vault) { v.URL = "http://vault.example.com" }, "vault.url: "},
		"a broken CA bundle": {func(v *v1alpha1.Vault) { v.CABundle = "hello" }, "vault.caBundle: "},
		"no role":            {func(v *v1alpha1.Vault) { v.Role = "" }, `vault.role: "" is no plain name`},
		"no auth":            {auth(v1alpha1.VaultAuth{}), "vault.auth: 0 methods are set"},
		"two methods": {auth(v1alpha1.VaultAuth{
			TokenSecretRef: &v1alpha1.SecretKeyRef{Name: "n", Key: "k"}, Kubernetes: &v1alpha1.VaultKubernetesAuth{Role: "r"},
		}), "vault.auth: 2 methods are set"},
		"Kubernetes without a role": {auth(v1alpha1.VaultAuth{Kubernetes: &v1alpha1.VaultKubernetesAuth{}}), "vault.auth.kubernetes.role: "},
		"AppRole without an ID":     {auth(v1alpha1.VaultAuth{AppRole: &v1alpha1.VaultAppRoleAuth{SecretIDRef: v1alpha1.SecretKeyRef{Name: "n", Key: "k"}}}), "vault.auth.appRole.roleID: "},
		"AppRole without a Secret":  {auth(v1alpha1.VaultAuth{AppRole: &v1alpha1.VaultAppRoleAuth{RoleID: "id"}}), "vault.auth.appRole.secretIDRef.name: "},
		"certificate of a CA":       {auth(v1alpha1.VaultAuth{Certificate: &v1alpha1.VaultCertificateAuth{SecretRef: v1alpha1.SecretRef{Name: "certwright-ca-internal.local"}}}), "kept by Certwright for itself"},
		"certificate of no Secret":  {auth(v1alpha1.VaultAuth{Certificate: &v1alpha1.VaultCertificateAuth{}}), "vault.auth.certificate.secretRef.name: "},
		"certificate with a path":   {auth(v1alpha1.VaultAuth{Certificate: &v1alpha1.VaultCertificateAuth{Role: "a/b", SecretRef: v1alpha1.SecretRef{Name: "n"}}}), "vault.auth.certificate.role: "},
		"token of no entry":         {auth(v1alpha1.VaultAuth{TokenSecretRef: &v1alpha1.SecretKeyRef{Name: "n"}}), "vault.auth.tokenSecretRef.key: "},
	} {
		t.Run(name, func(t *testing.T) {
			if err := newFrom(c.change); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got the error %v, want one with %q", err, c.want)
			}
		})
	}
	_, err := vault.New(vault.Options{
		Client: fake.NewClientBuilder().Build(), Namespace: "certwright",
		Vault: v1alpha1.Vault{Server: v1alpha1.Server{URL: "https://v"}, Role: "web", Auth: v1alpha1.VaultAuth{Kubernetes: &v1alpha1.VaultKubernetesAuth{Role: "r"}}},
	})
	if err == nil || !strings.Contains(err.Error(), "vault.auth.kubernetes: ") {
		t.Errorf("without a folder of tokens: got the error %v", err)
	}
	if _, err := vault.New(vault.Options{}); err == nil {
		t.Error("a backend without a client is made")
	}
}
