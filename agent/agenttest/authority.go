// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agenttest has the CA that tests of the agent and its parts use.
package agenttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"
)

// Authority is a CA: a root, which is the trust anchor, and an intermediate that signs.
type Authority struct {
	Root, Intermediate *x509.Certificate
	// Key is that of the intermediate.
	Key crypto.Signer
}

// NewAuthority makes a CA whose certificates bear the name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	rootKey, root := newCA(t, name+" root", nil, nil)
	key, intermediate := newCA(t, name+" intermediate", root, rootKey)
	return &Authority{Root: root, Intermediate: intermediate, Key: key}
}

func newCA(t testing.TB, name string, parent *x509.Certificate, parentKey crypto.Signer) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	key := Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: Must(rand.Int(rand.Reader, big.NewInt(1<<62)))(t),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	return key, Must(x509.ParseCertificate(Must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey))(t)))(t)
}

// Bundle is the authority's trust bundle as PEM.
func (a *Authority) Bundle() []byte { return Encode(a.Root) }

// Sign issues for a request in PEM, as a signer in a cluster does: backdated by
// five minutes, the intermediate behind the leaf. change may spoil the template.
func (a *Authority) Sign(request []byte, lifetime time.Duration, change func(*x509.Certificate)) ([]byte, error) {
	block, rest := pem.Decode(request)
	if block == nil || len(rest) > 0 {
		return nil, errors.New("not exactly one PEM block")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		PublicKey:    csr.PublicKey,
		DNSNames:     csr.DNSNames, URIs: csr.URIs, IPAddresses: csr.IPAddresses,
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.Intermediate, template.PublicKey, a.Key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}),
		Encode(a.Intermediate, a.Root)...), nil
}

// Encode renders certificates as PEM.
func Encode(certs ...*x509.Certificate) (out []byte) {
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}

// Must ends the test on an error: must(f())(t).
func Must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
