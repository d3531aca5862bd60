// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package example is the world that the tests of the signer's parts share: some CAs, a request that asks for a name of every kind, the Signer
// and the policy that are for it, backends that do as they are told, and an API server that notes every write.
package example

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"

	"github.com/certwright/certwright/csr"
)

// Now is when the tests begin.
var Now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// CA is a CA certificate with its key.
type CA struct {
	*x509.Certificate
	Key *ecdsa.PrivateKey
}

// Root is above Intermediate, and Stranger is another root. Key is that of the request.
var (
	Root         = NewCA("root", nil, nil)
	Intermediate = NewCA("intermediate", Root, nil)
	Stranger     = NewCA("stranger", nil, nil)
	Key          = newKey()
)

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// NewCA makes a CA, signed by the one above or by itself, after change had its way with the template.
func NewCA(name string, above *CA, change func(*x509.Certificate)) *CA {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: Now.Add(-24 * time.Hour), NotAfter: Now.Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	if above == nil {
		above = &CA{Certificate: template, Key: key}
	}
	return &CA{Certificate: create(template, above, key.Public()), Key: key}
}

func create(template *x509.Certificate, by *CA, public any) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, public, by.Key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

// Leaf makes the leaf that an honest backend makes for the request, after change had its way with the template.
func Leaf(req csr.Request, by *CA, change func(*x509.Certificate)) *x509.Certificate {
	usage, extended, err := csr.X509Usages(req.Usages)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: req.Subject, PublicKey: req.PublicKey,
		NotBefore: Now.Add(-5 * time.Minute), NotAfter: Now.Add(req.Duration),
		KeyUsage: usage, ExtKeyUsage: extended, BasicConstraintsValid: true, IsCA: req.IsCA,
		DNSNames: req.DNSNames, EmailAddresses: req.EmailAddresses, URIs: req.URIs,
	}
	for _, addr := range req.IPAddresses {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	}
	if change != nil {
		change(template)
	}
	return create(template, by, template.PublicKey)
}
