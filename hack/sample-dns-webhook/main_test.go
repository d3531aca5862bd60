// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/acme/dns01/bind9"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/conformance"
	"github.com/certwright/certwright/signer/acme/dns01/resolver"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
	"github.com/certwright/certwright/signer/remote"
)

const (
	zone   = "example.test."
	secret = "c2l4dGVlbiBieXRlcyBhbmQgc29tZSBtb3JlIG9mIHRoZW0="
	token  = "sesame"
)

// start runs the sample as a process of its own, with a DNS server behind it, and returns its URL and the certificate that it
// serves with.
func start(t *testing.T) (url, certificate string, dns *bind9.Server) {
	t.Helper()
	dns = bind9.Start(t, bind9.Config{
		Keys:  []bind9.Key{{Name: "sample", Algorithm: "hmac-sha256", Secret: secret}},
		Zones: []bind9.Zone{{Name: zone, Options: "update-policy { grant sample zonesub TXT; };"}},
	})
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := filepath.Join(dir, "webhook")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	// The certificate that Go's own tests serve with.
	tls := httptest.NewTLSServer(nil)
	tls.Close()
	key, err := x509.MarshalPKCS8PrivateKey(tls.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	pair := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw})
	address := servers.Address(t)
	servers.Start(t, servers.Spec{
		Path: program,
		Args: []string{
			"--listen", address, "--certificate", write("tls.crt", pair),
			"--key", write("tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
			"--token-file", write("token", []byte(token+"\n")),
			"--server", strings.ReplaceAll(dns.Address(), ":", " "),
			"--nsupdate", "nsupdate -k " + write("key", fmt.Appendf(nil, "key sample { algorithm hmac-sha256; secret %q; };", secret)),
		},
		ReadyAddress: address,
	})
	return "https://" + address, string(pair), dns
}

func TestConformance(t *testing.T) {
	url, certificate, dns := start(t)
	client, err := remote.HTTPClient(v1alpha1.Server{URL: url, CABundle: certificate}, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	look, err := resolver.New([]string{dns.Address()}, uint16(dns.Port))
	if err != nil {
		t.Fatal(err)
	}
	target := conformance.Target{
		URL: url, Client: client, Token: token, Zone: zone, Patience: 10 * time.Second,
		Serves: func(ctx context.Context, r txt.Record) bool { return look.Served(ctx, r.Zone, r.Name, r.Value) == nil },
	}
	for _, c := range conformance.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Run(t.Context(), target); err != nil {
				t.Error(err)
			}
		})
	}
}

// Certwright's own client talks to the sample, and gets the words of its errors.
func TestClient(t *testing.T) {
	url, certificate, dns := start(t)
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "certwright-system", Name: "webhook"}, Data: map[string][]byte{"token": []byte(token), "old": []byte("old")}}
	secrets := remote.Secrets{Reader: fake.NewClientBuilder().WithObjects(object).Build(), Namespace: "certwright-system"}
	config := v1alpha1.DNSWebhook{URL: url, CABundle: certificate, TokenRef: &v1alpha1.SecretKeyRef{Name: "webhook", Key: "token"}}
	w, err := dnswebhook.New(config, secrets)
	if err != nil {
		t.Fatal(err)
	}
	record := txt.Record{Zone: zone, Name: "_acme-challenge." + zone, Value: strings.Repeat("v", 43)}
	for _, call := range []func(context.Context, txt.Record) error{w.Present, w.CleanUp} {
		if err := call(t.Context(), record); err != nil {
			t.Error(err)
		}
	}
	if err := w.Check(t.Context()); err != nil {
		t.Error(err)
	}
	var misconfigured *txt.ConfigError
	elsewhere := txt.Record{Zone: "example.org.", Name: "_acme-challenge.example.org.", Value: record.Value}
	if err := w.Present(t.Context(), elsewhere); !errors.As(err, &misconfigured) || !strings.Contains(err.Error(), "NOTAUTH") {
		t.Errorf("a zone that the server does not have: %v", err)
	}
	config.TokenRef = &v1alpha1.SecretKeyRef{Name: "webhook", Key: "old"}
	if w, err = dnswebhook.New(config, secrets); err != nil {
		t.Fatal(err)
	}
	if err := w.Present(t.Context(), record); !errors.As(err, &misconfigured) || !strings.Contains(err.Error(), "Secret webhook, entry old") {
		t.Errorf("another token: %v", err)
	}
	dns.Stop()
	w, err = dnswebhook.New(v1alpha1.DNSWebhook{URL: url, CABundle: certificate, TokenRef: &v1alpha1.SecretKeyRef{Name: "webhook", Key: "token"}}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Present(t.Context(), record); err == nil || errors.As(err, &misconfigured) {
		t.Errorf("with the DNS server down: %v, want trouble", err)
	}
}
