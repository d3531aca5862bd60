// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
	"github.com/certwright/certwright/signer/verify"
)

// tampering is a chain that a server should not have sent.
type tampering struct {
	// change changes the template of the leaf, and mid that of the CA between it and the root.
	change, mid func(*x509.Certificate)
	// order, if set, changes the chain.
	order func(chain []*x509.Certificate) []*x509.Certificate
	// foreign is true if what is wrong is the root alone.
	foreign bool
	// ok is true if nothing is wrong, which shows that what the others say counts.
	ok bool
}

func (s Subject) tamperings(t *testing.T) map[string]tampering {
	now := s.Clock.Now()
	other := Key(t, "ECDSA-P256")
	return map[string]tampering{
		"nothing":             {ok: true},
		"a foreign root":      {foreign: true},
		"another key":         {change: func(c *x509.Certificate) { c.PublicKey = other.Public() }},
		"extra names":         {change: func(c *x509.Certificate) { c.DNSNames = append(slices.Clone(c.DNSNames), "bank.example.org") }},
		"a missing name":      {change: func(c *x509.Certificate) { c.DNSNames = c.DNSNames[1:] }},
		"another common name": {change: func(c *x509.Certificate) { c.Subject.CommonName = "bank.example.org" }},
		"a CA":                {change: func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }},
		"more usages": {change: func(c *x509.Certificate) {
			c.ExtKeyUsage = append(slices.Clone(c.ExtKeyUsage), x509.ExtKeyUsageCodeSigning)
		}},
		"an expired leaf":    {change: func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour) }},
		"a longer life":      {change: func(c *x509.Certificate) { c.NotAfter = now.Add(10 * 365 * 24 * time.Hour) }},
		"an expired issuer":  {mid: func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }},
		"an issuer, no CA":   {mid: func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }},
		"the chain reversed": {order: func(chain []*x509.Certificate) []*x509.Certificate { slices.Reverse(chain); return chain }},
		"no issuer":          {order: func(chain []*x509.Certificate) []*x509.Certificate { return chain[:1] }},
	}
}

// testTampering has the server answer with certificates of another CA. All but one of the cases are held against that CA's root, so
// that nothing but what is wrong with the leaf or the chain can give it away.
func (f Front) testTampering(t *testing.T) {
	for name, c := range f.tamperings(t) {
		t.Run(name, func(t *testing.T) {
			req := f.easyRequest(t)
			root, chain := f.forge(t, req, c)
			f.Proxy.Break(faultproxy.Only(f.Signs, faultproxy.Change(func(body []byte) []byte { return f.Answer(body, chain) })))
			got, err := f.sign(t, req)
			f.Proxy.Mend(t)
			if err == nil {
				anchors := []*x509.Certificate{root}
				if c.foreign {
					anchors = f.Anchors
				}
				_, err = verify.Chain(got, anchors, req, f.Clock.Now())
			}
			if (err == nil) != c.ok {
				t.Errorf("the error is %v: is the chain good? %t", err, c.ok)
			}
			if isPermanent(err) {
				t.Errorf("what a server should not have sent is no verdict on the request: %v", err)
			}
		})
	}
	f.recovers(t)
}

// forge makes a root, and the chain below it: what is asked for, after c had its way.
func (s Subject) forge(t *testing.T, req csr.Request, c tampering) (root *x509.Certificate, chain []*x509.Certificate) {
	t.Helper()
	rootKey, midKey := Key(t, "ECDSA-P256"), Key(t, "ECDSA-P256")
	now := s.Clock.Now()
	root = s.forgeOne(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Forged root"}}, nil, rootKey.Public(), rootKey)
	middle := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Forged issuer"}, NotAfter: now.Add(time.Hour * 24 * 365 * 20), IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if c.mid != nil {
		c.mid(middle)
	}
	issuer := s.forgeOne(t, middle, root, midKey.Public(), rootKey)
	usages := req.Usages
	if len(s.Cannot.OtherUsages) > 0 {
		usages = s.Cannot.OtherUsages
	}
	usage, extended, err := csr.X509Usages(usages)
	if err != nil {
		t.Fatalf("translating usages: %v", err)
	}
	leaf := &x509.Certificate{
		Subject: req.Subject, DNSNames: req.DNSNames, PublicKey: req.PublicKey, NotAfter: now.Add(req.Duration), KeyUsage: usage, ExtKeyUsage: extended,
	}
	if c.change != nil {
		c.change(leaf)
	}
	chain = []*x509.Certificate{s.forgeOne(t, leaf, issuer, leaf.PublicKey, midKey), issuer}
	if c.order != nil {
		chain = c.order(chain)
	}
	return root, chain
}

// forgeOne signs a template; without a parent it is a root's.
func (s Subject) forgeOne(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatalf("making a serial number: %v", err)
	}
	template.SerialNumber, template.BasicConstraintsValid = serial, true
	if template.NotBefore.IsZero() {
		template.NotBefore = s.Clock.Now().Add(-time.Minute)
	}
	if parent == nil {
		template.IsCA, template.KeyUsage, template.NotAfter = true, x509.KeyUsageCertSign, s.Clock.Now().Add(time.Hour*24*365*30)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, cmp.Or(parent, template), public, key)
	if err != nil {
		t.Fatalf("signing a forged certificate: %v", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parsing a forged certificate: %v", err)
	}
	return c
}
