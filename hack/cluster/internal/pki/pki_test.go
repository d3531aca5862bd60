// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// leaf checks that a pair belongs together and is vouched for by the authority, for one use.
func leaf(t *testing.T, authority *Authority, pair Pair, usage x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	loaded, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Certificate)
	options := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
	if _, err := loaded.Leaf.Verify(options); err != nil {
		t.Fatal(err)
	}
	if len(loaded.Leaf.ExtKeyUsage) != 1 || loaded.Leaf.IsCA {
		t.Errorf("usages %v, CA %v: want one usage, no CA", loaded.Leaf.ExtKeyUsage, loaded.Leaf.IsCA)
	}
	return loaded.Leaf
}

func TestAuthority(t *testing.T) {
	authority, err := NewAuthority("test", now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewAuthority("test", now)
	if err != nil {
		t.Fatal(err)
	}

	client, err := authority.Client("system:node:one", "system:nodes")
	if err != nil {
		t.Fatal(err)
	}
	got := leaf(t, authority, client, x509.ExtKeyUsageClientAuth)
	if got.Subject.CommonName != "system:node:one" || !slices.Equal(got.Subject.Organization, []string{"system:nodes"}) {
		t.Errorf("subject %s", got.Subject)
	}
	roots := x509.NewCertPool()
	roots.AddCert(other.certificate)
	if _, err := got.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("another CA of the same name vouches for it")
	}

	server, err := authority.Server("kube-apiserver", "kubernetes.default.svc", "198.19.0.1", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	got = leaf(t, authority, server, x509.ExtKeyUsageServerAuth)
	for _, host := range []string{"kubernetes.default.svc", "198.19.0.1", "127.0.0.1"} {
		if err := got.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if err := got.VerifyHostname("198.19.0.2"); err == nil {
		t.Error("good for an address that was not asked for")
	}
}

func TestServiceAccountKey(t *testing.T) {
	pair, err := ServiceAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	private, _ := pem.Decode(pair.Key)
	public, _ := pem.Decode(pair.Certificate)
	key, err := x509.ParsePKCS8PrivateKey(private.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.ParsePKIXPublicKey(public.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !key.(*rsa.PrivateKey).PublicKey.Equal(want) {
		t.Error("the public key is not that of the private key")
	}
}

func TestSaveKeepsKeysPrivate(t *testing.T) {
	authority, err := NewAuthority("test", now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := authority.Save(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
}

func TestKubeconfig(t *testing.T) {
	raw, err := Kubeconfig("https://127.0.0.1:6443", []byte("CA"), "admin", Pair{Certificate: []byte("CERT"), Key: []byte("KEY")})
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Clusters []struct {
			Cluster map[string]string `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User map[string]string `json:"user"`
		} `json:"users"`
	}
	if err := yaml.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	if got := config.Clusters[0].Cluster; got["server"] != "https://127.0.0.1:6443" || got["certificate-authority-data"] != encode("CA") {
		t.Errorf("cluster: %v", got)
	}
	if got := config.Users[0].User; got["client-certificate-data"] != encode("CERT") || got["client-key-data"] != encode("KEY") {
		t.Errorf("user: %v", got)
	}
}
