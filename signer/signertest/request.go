// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/csr"
)

var serverUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}

// Key makes a private key. The algorithm is RSA-2048, ECDSA-P256, ECDSA-P384, ECDSA-P521 or Ed25519.
func Key(t testing.TB, algorithm string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case "RSA-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ECDSA-P256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSA-P384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSA-P521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("unknown key algorithm %q", algorithm)
	}
	if err != nil {
		t.Fatalf("making a key: %v", err)
	}
	return key
}

// Request makes a request as a client of the Kubernetes API would, parsed by csr.Parse. Without usages it asks for digital
// signature, server auth and client auth.
func Request(t testing.TB, key crypto.Signer, template *x509.CertificateRequest, usages []certificatesv1.KeyUsage, duration time.Duration) csr.Request {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatalf("making a PKCS #10 request: %v", err)
	}
	if usages == nil {
		usages = serverUsages
	}
	req, err := csr.Parse(&certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "request", UID: "6f1d8a52-0f0c-4f0e-9f0e-2f3a7c1d9b11"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: "example.com/internal",
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			Usages:     usages,
		},
	})
	if err != nil {
		t.Fatalf("parsing the request: %v", err)
	}
	return req.WithDuration(duration)
}

// CARequest is a PKCS #10 template that asks for a CA certificate.
func CARequest(commonName string) *x509.CertificateRequest {
	constraints, err := asn1.Marshal(struct {
		IsCA bool `asn1:"optional"`
	}{true})
	if err != nil {
		panic("encoding basic constraints: " + err.Error()) // of a constant
	}
	return &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: commonName},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints}},
	}
}

func dnsRequest() *x509.CertificateRequest {
	return &x509.CertificateRequest{DNSNames: []string{"web.shop.svc", "web.shop.svc.cluster.local"}}
}
