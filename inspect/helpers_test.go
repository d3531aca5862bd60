// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

// authority is a CA for tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs a certificate; a nil authority makes it sign itself.
func (a *authority) issue(t *testing.T, key crypto.Signer, template x509.Certificate) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(0xabcdef)
	parent, signer := &template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) sub(t *testing.T, name string, notBefore, notAfter time.Time) *authority {
	t.Helper()
	key := newKey(t)
	cert := a.issue(t, key, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return &authority{cert, key}
}

func newRoot(t *testing.T, name string) *authority {
	t.Helper()
	return (*authority)(nil).sub(t, name, now.Add(-year), now.Add(year))
}

// leaf is a template for web.shop.svc that is valid for a day, half of which is over.
func leaf() x509.Certificate {
	return x509.Certificate{
		DNSNames: []string{"web.shop.svc"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/web"}},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 7)}, EmailAddresses: []string{"ops@example.com"},
		NotBefore: now.Add(-12 * time.Hour), NotAfter: now.Add(12 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

func encode(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}

func encodeKey(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func encodeRequest(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"web.shop.svc"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func newObject(t *testing.T, key crypto.Signer, name string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	object := &certificatesv1.CertificateSigningRequest{}
	object.Name, object.UID = name, "u-1"
	object.CreationTimestamp.Time = now.Add(-time.Hour)
	object.Spec = certificatesv1.CertificateSigningRequestSpec{
		Request: encodeRequest(t, key), SignerName: "example.com/internal", Username: "system:serviceaccount:shop:web",
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
	}
	return object
}

func issued(object *certificatesv1.CertificateSigningRequest, chain ...*x509.Certificate) *certificatesv1.CertificateSigningRequest {
	csr.SetCondition(object, certificatesv1.CertificateApproved, "PolicyPermits", "fine", now)
	object.Status.Certificate = encode(chain...)
	return object
}

// wantFindings fails unless there is, for each of the given texts, exactly one finding that contains it, and no other.
func wantFindings(t *testing.T, r Report, want ...string) {
	t.Helper()
	var got []string
	for _, f := range r.Findings {
		got = append(got, string(f.Severity)+": "+f.Message)
	}
	if len(got) != len(want) {
		t.Fatalf("findings: got %q, want %q", got, want)
	}
	for _, text := range want {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, text) }) {
			t.Errorf("findings: got %q, want one with %q", got, text)
		}
	}
}
