// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// A verifier that accepts everything would make the suite worthless.
func TestVerifiersRefuse(t *testing.T) {
	root, rootKey := selfSigned(t)
	other, _ := selfSigned(t)
	key := Key(t, "ECDSA-P256")
	now := time.Now()
	leaf := func(end time.Time) *x509.Certificate {
		return sign(t, &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: now.Add(-time.Hour), NotAfter: end,
			BasicConstraintsValid: true, AuthorityKeyId: root.SubjectKeyId, SubjectKeyId: []byte{1}, DNSNames: []string{"web.example.com"},
		}, root, key.Public(), rootKey)
	}
	good, expired := leaf(now.Add(time.Hour)), leaf(now.Add(-time.Minute))
	for name, verify := range Verifiers() {
		t.Run(name, func(t *testing.T) {
			for what, c := range map[string]struct {
				leaf, anchor *x509.Certificate
				ok           bool
			}{"good": {good, root, true}, "another root": {good, other, false}, "expired": {expired, root, false}} {
				err := verify(t.Context(), Subject{Clock: clock.RealClock{}, Anchors: []*x509.Certificate{c.anchor}}, []*x509.Certificate{c.leaf})
				if (err == nil) != c.ok {
					t.Errorf("%s: error %v", what, err)
				}
			}
		})
	}
}

func selfSigned(t *testing.T) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key := Key(t, "ECDSA-P256")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return sign(t, template, template, key.Public(), key), key
}

func sign(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
