// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

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

// authority is a CA: a root, which is the trust anchor, and an intermediate that signs.
type authority struct {
	root, intermediate *x509.Certificate
	key                crypto.Signer
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	rootKey, root := newCA(t, name+" root", nil, nil)
	key, intermediate := newCA(t, name+" intermediate", root, rootKey)
	return &authority{root: root, intermediate: intermediate, key: key}
}

func newCA(t testing.TB, name string, parent *x509.Certificate, parentKey crypto.Signer) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62)))(t),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	return key, must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey))(t)))(t)
}

// bundle is the authority's trust bundle as PEM.
func (a *authority) bundle() []byte { return encodeCertificates([]*x509.Certificate{a.root}) }

// sign issues for a request in PEM, as a signer in a cluster does: backdated by
// five minutes, the intermediate behind the leaf. change may spoil the template.
func (a *authority) sign(request []byte, lifetime time.Duration, change func(*x509.Certificate)) ([]byte, error) {
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
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.intermediate, template.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}),
		encodeCertificates([]*x509.Certificate{a.intermediate, a.root})...), nil
}

// pair makes a key and a certificate for the names, valid from now on.
func (a *authority) pair(t testing.TB, n names, lifetime time.Duration) *Pair {
	t.Helper()
	key := must(generateKey("ECDSA-P256"))(t)
	issued := must(a.sign(must(requestPEM(key, n))(t), lifetime, nil))(t)
	return &Pair{Chain: must(parseIssued(issued))(t), Key: key}
}

// must ends the test on an error: must(f())(t).
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
