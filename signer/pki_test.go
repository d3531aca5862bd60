// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// authority is a CA certificate with its key.
type authority struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

var (
	root         = newAuthority("root", nil, nil)
	intermediate = newAuthority("intermediate", root, nil)
	stranger     = newAuthority("stranger", nil, nil)
	workloadKey  = newKey()
)

// newAuthority makes a CA, signed by the one above or by itself, after change had its way with the template.
func newAuthority(name string, above *authority, change func(*x509.Certificate)) *authority {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	if above == nil {
		above = &authority{Certificate: template, key: key}
	}
	return &authority{Certificate: create(template, above, key.Public()), key: key}
}

func create(template *x509.Certificate, by *authority, public any) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, public, by.key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

// mint makes the leaf that an honest backend makes for the request, after change had its way with the template.
func mint(req csr.Request, by *authority, change func(*x509.Certificate)) *x509.Certificate {
	usage, extended, err := csr.X509Usages(req.Usages)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: req.Subject, PublicKey: req.PublicKey,
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(req.Duration),
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

// altNameExtension has the leaf's names, which are all of its request's, and another one of any kind.
func altNameExtension(t *testing.T, template *x509.Certificate, another asn1.RawValue) pkix.Extension {
	t.Helper()
	all := []asn1.RawValue{another}
	add := func(tag int, value []byte) {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value})
	}
	for _, n := range template.DNSNames {
		add(2, []byte(n))
	}
	for _, n := range template.EmailAddresses {
		add(1, []byte(n))
	}
	for _, n := range template.URIs {
		add(6, []byte(n.String()))
	}
	for _, n := range template.IPAddresses {
		add(7, n)
	}
	der, err := asn1.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Value: der}
}

// rawSubject writes a subject with one attribute in each RDN, without regard to what pkix.Name can hold.
func rawSubject(t *testing.T, pairs ...string) []byte {
	t.Helper()
	oids := map[string]asn1.ObjectIdentifier{"CN": {2, 5, 4, 3}, "O": {2, 5, 4, 10}, "UID": {0, 9, 2342, 19200300, 100, 1, 1}}
	var rdns pkix.RDNSequence
	for i := 0; i < len(pairs); i += 2 {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: oids[pairs[i]], Value: pairs[i+1]}})
	}
	der, err := asn1.Marshal(rdns)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
