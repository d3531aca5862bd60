// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/cfssl"
	"github.com/certwright/certwright/signer/signertest"
)

// soon is when a test gives up on a server that does not answer.
const soon = 300 * time.Millisecond

func request(t testing.TB, template *x509.CertificateRequest) csr.Request {
	t.Helper()
	return signertest.Request(t, signertest.Key(t, "ECDSA-P256"), template, fixedUsages(), time.Hour)
}

func dns(names ...string) *x509.CertificateRequest { return &x509.CertificateRequest{DNSNames: names} }

func mustSign(t testing.TB, b *cfssl.Backend) []*x509.Certificate {
	t.Helper()
	chain, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return chain
}

func signFor(t testing.TB, b *cfssl.Backend, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := b.Sign(ctx, request(t, dns("web.example.com")))
	return err
}

func TestNewRefuses(t *testing.T) {
	good := v1alpha1.CFSSL{Server: v1alpha1.Server{URL: "https://cfssl.example.com:8888"}, AuthKeyRef: v1alpha1.SecretKeyRef{Name: "cfssl", Key: "key"}}
	leaf := newCertificate(t, "leaf", "ECDSA-P256", nil, func(*x509.Certificate) {})
	for name, c := range map[string]struct {
		change func(*v1alpha1.CFSSL)
		want   string
	}{
		"plain HTTP": {func(c *v1alpha1.CFSSL) { c.URL = "http://cfssl.example.com" }, "cfssl.url: "},
		"no key":     {func(c *v1alpha1.CFSSL) { c.AuthKeyRef.Key = "" }, "cfssl.authKeyRef.key: "},
		"no Secret":  {func(c *v1alpha1.CFSSL) { c.AuthKeyRef.Name = "" }, "cfssl.authKeyRef.name: "},
		"a CA as client certificate": {func(c *v1alpha1.CFSSL) {
			c.ClientCertificateRef = &v1alpha1.SecretRef{Name: "certwright-ca-internal.local"}
		}, `cfssl.clientCertificateRef.name: "certwright-ca-`},
		"no client certificate": {func(c *v1alpha1.CFSSL) { c.ClientCertificateRef = &v1alpha1.SecretRef{} }, "cfssl.clientCertificateRef.name: "},
		"bundle":                {func(c *v1alpha1.CFSSL) { c.CABundle = "nonsense" }, "cfssl.caBundle: "},
		"chain":                 {func(c *v1alpha1.CFSSL) { c.Chain = "nonsense" }, "cfssl.chain: "},
		"leaf in the chain":     {func(c *v1alpha1.CFSSL) { c.Chain = pemCert(leaf) }, "cfssl.chain: certificate 1 (CN=leaf) is no CA"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			c.change(&config)
			if _, err := cfssl.New(cfssl.Options{CFSSL: config}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got error %v, want one about %s", err, c.want)
			}
		})
	}
	if _, err := cfssl.New(cfssl.Options{CFSSL: good}); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
}

// What a person has configured wrongly is trouble, and the reason says what to do.
func TestMisconfigured(t *testing.T) {
	profiles := map[string]profile{"workloads": workloads(), "open": {"usages": usages, "expiry": "1h"}}
	ca := newCertificate(t, "Root", "ECDSA-P256", nil, nil)
	serve, multiroot := configure(t, ca, profiles).serve(t), configure(t, ca, profiles).multiroot(t)
	for name, c := range map[string]struct {
		server       *server
		change       func(*v1alpha1.CFSSL)
		key          string
		reason, says string
	}{
		"another key":            {serve, nil, "00ff", "AuthKeyRefused", "cfssl.authKeyRef"},
		"another key, multiroot": {multiroot, label("workloads"), "00ff", "AuthKeyRefused", "cfssl.authKeyRef"},
		"no hexadecimal digits":  {serve, nil, "secret", "SecretInvalid", "openssl rand -hex 32"},
		"key in a file":          {serve, nil, "file:/etc/passwd", "SecretInvalid", "hexadecimal"},
		"key in the environment": {serve, nil, "env:PATH", "SecretInvalid", "hexadecimal"},
		"no key":                 {serve, nil, "", "SecretIncomplete", `no key "key"`},
		"no auth_key":            {serve, func(c *v1alpha1.CFSSL) { c.Profile = "open" }, authKey, "ProfileUnusable", "no auth_key"},
		"no auth_key, multiroot": {multiroot, func(c *v1alpha1.CFSSL) { c.Profile, c.Label = "open", "workloads" }, authKey, "ProfileUnusable", "no auth_key"},
		"no such profile":        {multiroot, func(c *v1alpha1.CFSSL) { c.Profile, c.Label = "none", "workloads" }, authKey, "ProfileUnusable", "no profile of that name"},
		"no such label":          {multiroot, label("none"), authKey, "LabelUnknown", "no signer of that label"},
		"another path":           {serve, func(c *v1alpha1.CFSSL) { c.URL += "/proxy" }, authKey, "EndpointMissing", "auth_key"},
		"another root":           {serve, func(c *v1alpha1.CFSSL) { c.CABundle = pemCert(ca) }, authKey, "trouble", "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			config := c.server.config()
			if c.change != nil {
				c.change(&config)
			}
			b := newBackend(t, config, secret(c.key))
			signertest.WantError(t, b.Check(t.Context()), c.reason, c.says)
			_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
			signertest.WantError(t, err, c.reason, c.says)
			if strings.Contains(err.Error(), authKey) {
				t.Error("the error holds the key")
			}
		})
	}
}

func label(l string) func(*v1alpha1.CFSSL) { return func(c *v1alpha1.CFSSL) { c.Label = l } }

// What the server can never sign as it was asked for is refused for good, by the server's own words where it has some.
func TestRefused(t *testing.T) {
	profiles := map[string]profile{
		"workloads": workloads(), "listed": workloads().with("name_whitelist", `\.example\.com$`),
	}
	s := configure(t, newCertificate(t, "Root", "ECDSA-P256", nil, nil), profiles).serve(t)
	tricky := &url.URL{Scheme: "https", Host: "web.example.com", Path: "/ops@shop;"}
	server := []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth}
	for name, c := range map[string]struct {
		profile    string
		req        csr.Request
		kind, says string
	}{
		"listed name":          {"listed", request(t, dns("web.example.com")), "none", ""},
		"name not listed":      {"listed", request(t, dns("web.example.org")), "permanent", "Request does not match policy whitelist"},
		"usages":               {"workloads", signertest.Request(t, signertest.Key(t, "ECDSA-P256"), dns("web.example.com"), server, time.Hour), "permanent", `usages are ["server auth"], and the server's profile gives`},
		"shorter":              {"workloads", request(t, dns("web.example.com")).WithDuration(59 * time.Minute), "permanent", "duration: 59m0s are granted, and the server's profile gives 1h0m0s"},
		"longer":               {"workloads", request(t, dns("web.example.com")).WithDuration(5 * time.Hour), "none", ""},
		"email address or URI": {"workloads", request(t, &x509.CertificateRequest{URIs: []*url.URL{tricky}}), "permanent", "uris: "},
		"CA":                   {"workloads", request(t, signertest.CARequest("CA")), "permanent", "isCA"},
		"no such profile":      {"none", request(t, dns("web.example.com")), "permanent", "gives 8760h0m0s"}, // cfssl serve takes its default
	} {
		t.Run(name, func(t *testing.T) {
			config := s.config()
			config.Profile = c.profile
			_, err := newBackend(t, config, secret(authKey)).Sign(t.Context(), c.req)
			signertest.WantError(t, err, c.kind, c.says)
		})
	}
}

// multirootca does not say why it does not sign, so nobody can know that it never will. It is no trouble of the server's either.
func TestMultirootKeepsReasons(t *testing.T) {
	profiles := map[string]profile{"workloads": workloads().with("name_whitelist", `\.example\.com$`)}
	s := configure(t, newCertificate(t, "Root", "ECDSA-P256", nil, nil), profiles).multiroot(t)
	config := s.config()
	config.Label = "workloads"
	_, err := newBackend(t, config, secret(authKey)).Sign(t.Context(), request(t, dns("web.example.org")))
	signertest.WantError(t, err, "request", "name_whitelist")
}

// A profile that takes nothing but the key from the PKCS #10 request gets the subject told.
func TestSubjectIsTold(t *testing.T) {
	locked := workloads().with("CSRWhitelist", map[string]bool{"PublicKey": true, "PublicKeyAlgorithm": true, "SignatureAlgorithm": true})
	s := configure(t, newCertificate(t, "Root", "ECDSA-P256", nil, nil), map[string]profile{"workloads": locked}).serve(t)
	want := pkix.Name{CommonName: "web", Organization: []string{"a", "b"}, OrganizationalUnit: []string{"c"}, Country: []string{"NO"}, Province: []string{"p"}, Locality: []string{"l"}, SerialNumber: "1"}
	chain, err := newBackend(t, s.config(), secret(authKey)).Sign(t.Context(), request(t, &x509.CertificateRequest{Subject: want, DNSNames: []string{"web.example.com"}}))
	if err != nil {
		t.Fatal(err)
	}
	if got := chain[0].Subject.ToRDNSequence().String(); got != want.ToRDNSequence().String() {
		t.Errorf("subject is %q, want %q", got, want)
	}
}

func TestClientCertificate(t *testing.T) {
	s := configure(t, newCertificate(t, "Root", "ECDSA-P256", nil, nil), map[string]profile{"workloads": workloads()})
	s.clients = newCertificate(t, "Clients", "ECDSA-P256", nil, nil)
	s.serve(t)
	signertest.WantError(t, newBackend(t, s.config(), secret(authKey)).Check(t.Context()), "trouble", "certificate required")

	config := s.config()
	config.ClientCertificateRef = &v1alpha1.SecretRef{Name: "client"}
	client := newCertificate(t, "certwright", "ECDSA-P256", s.clients, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	pair := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "client"},
		Data:       map[string][]byte{"tls.crt": []byte(pemCert(client)), "tls.key": []byte(pemKey(t, client))},
	}
	b := newBackend(t, config, secret(authKey), pair)
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	mustSign(t, b)
	signertest.WantError(t, newBackend(t, config, secret(authKey)).Check(t.Context()), "SecretNotFound", "create it")
}

// A CA that ends soon: multirootca is asked for less, cfssl serve would sign what outlives the CA.
func TestCAEndsSoon(t *testing.T) {
	end := time.Now().Add(20 * time.Minute).Truncate(time.Second)
	ca := newCertificate(t, "Root", "ECDSA-P256", nil, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.NotAfter = true, x509.KeyUsageCertSign, end
	})
	profiles := map[string]profile{"workloads": workloads()}
	m := configure(t, ca, profiles).multiroot(t)
	config := m.config()
	config.Label = "workloads"
	b := newBackend(t, config, secret(authKey))
	if leaf := mustSign(t, b)[0]; leaf.NotAfter.After(end) {
		t.Errorf("the leaf ends at %s, after the CA at %s", leaf.NotAfter, end)
	}
	if got, err := b.NotAfter(t.Context()); err != nil || !got.Equal(end) {
		t.Errorf("NotAfter is %s, error %v, want %s", got, err, end)
	}
	s := configure(t, ca, profiles).serve(t)
	signertest.WantError(t, signFor(t, newBackend(t, s.config(), secret(authKey)), time.Minute), "CAExpiring", "renew it")
}

func TestExpiredCA(t *testing.T) {
	ca := newCertificate(t, "Root", "ECDSA-P256", nil, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.NotAfter = true, x509.KeyUsageCertSign, time.Now().Add(-time.Minute)
	})
	s := configure(t, ca, map[string]profile{"workloads": workloads()}).serve(t)
	b := newBackend(t, s.config(), secret(authKey))
	signertest.WantError(t, b.Check(t.Context()), "CAExpired", "give the server a new one")
	signertest.WantError(t, signFor(t, b, time.Minute), "CAExpired", "give the server a new one")
}

// The server tells only its own CA certificate.
func TestChain(t *testing.T) {
	root := newCertificate(t, "Root", "ECDSA-P256", nil, nil)
	upper := newCertificate(t, "Upper", "ECDSA-P256", root, nil)
	lower := newCertificate(t, "Lower", "ECDSA-P256", upper, nil)
	stranger := newCertificate(t, "Upper", "ECDSA-P256", nil, nil) // of the same name
	s := configure(t, lower, map[string]profile{"workloads": workloads()}).serve(t)
	for name, c := range map[string]struct {
		chain  string
		want   []*issuer
		anchor *issuer
	}{
		"nothing":       {"", []*issuer{lower}, nil},
		"without root":  {pemCert(upper), []*issuer{lower, upper}, nil},
		"with root":     {pemCert(upper) + pemCert(root), []*issuer{lower, upper}, root},
		"stranger":      {pemCert(stranger) + pemCert(root), []*issuer{lower}, nil},
		"its own again": {pemCert(lower) + pemCert(root) + pemCert(upper), []*issuer{lower, upper}, root},
	} {
		t.Run(name, func(t *testing.T) {
			config := s.config()
			config.Chain = c.chain
			b := newBackend(t, config, secret(authKey))
			chain := mustSign(t, b)
			if len(chain) != len(c.want)+1 {
				t.Fatalf("the chain has %d certificates, want %d", len(chain), len(c.want)+1)
			}
			for i, w := range c.want {
				if !chain[i+1].Equal(w.cert) {
					t.Errorf("certificate %d is %s, want %s", i+1, chain[i+1].Subject, w.cert.Subject)
				}
			}
			anchors, err := b.TrustAnchors(t.Context())
			if c.anchor == nil {
				signertest.WantError(t, err, "RootUnknown", "trustAnchors")
			} else if err != nil || len(anchors) != 1 || !anchors[0].Equal(c.anchor.cert) {
				t.Errorf("trust anchors are %v, error %v", anchors, err)
			}
		})
	}
}
