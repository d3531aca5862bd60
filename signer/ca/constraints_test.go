// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/signer/signertest"
)

func network(s string) []*net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err) // of a constant
	}
	return []*net.IPNet{n}
}

func uris(s string) []*url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // of a constant
	}
	return []*url.URL{u}
}

// constrained are CAs with name constraints of each kind, both permitted and excluded.
var constrained = map[string]func(*x509.Certificate){
	"permitted DNS":         func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} },
	"permitted .DNS":        func(c *x509.Certificate) { c.PermittedDNSDomains = []string{".example.com"} },
	"excluded DNS":          func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"secret.example.com"} },
	"permitted IPv4":        func(c *x509.Certificate) { c.PermittedIPRanges = network("198.18.0.0/16") },
	"permitted IPv6":        func(c *x509.Certificate) { c.PermittedIPRanges = network("2001:db8::/32") },
	"excluded IPv4":         func(c *x509.Certificate) { c.ExcludedIPRanges = network("198.18.0.0/16") },
	"permitted URI":         func(c *x509.Certificate) { c.PermittedURIDomains = []string{"cluster.local"} },
	"permitted .URI":        func(c *x509.Certificate) { c.PermittedURIDomains = []string{".cluster.local"} },
	"excluded URI":          func(c *x509.Certificate) { c.ExcludedURIDomains = []string{"evil.example"} },
	"permitted email host":  func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.com"} },
	"permitted .email host": func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{".example.com"} },
	"permitted mailbox":     func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"a@example.com"} },
	"excluded email host":   func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"example.com"} },
}

// named are requests with names of each kind, inside and outside.
var named = map[string]*x509.CertificateRequest{
	"DNS name":                 {DNSNames: []string{"a.example.com"}},
	"DNS domain itself":        {DNSNames: []string{"example.com"}},
	"DNS elsewhere":            {DNSNames: []string{"a.example.org"}},
	"DNS with that ending":     {DNSNames: []string{"notexample.com"}},
	"DNS excluded":             {DNSNames: []string{"a.secret.example.com"}},
	"wildcard":                 {DNSNames: []string{"*.example.com"}},
	"wildcard excluded":        {DNSNames: []string{"*.secret.example.com"}},
	"one label":                {DNSNames: []string{"web"}},
	"IPv4":                     {IPAddresses: []net.IP{net.ParseIP("198.18.0.7")}},
	"IPv4 elsewhere":           {IPAddresses: []net.IP{net.ParseIP("192.0.2.1")}},
	"IPv6":                     {IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}},
	"SPIFFE ID":                {URIs: uris("spiffe://cluster.local/ns/a")},
	"SPIFFE ID below":          {URIs: uris("spiffe://a.cluster.local/ns/a")},
	"SPIFFE ID elsewhere":      {URIs: uris("spiffe://evil.example/a")},
	"SPIFFE ID of one label":   {URIs: uris("spiffe://prod/a")},
	"mailbox":                  {EmailAddresses: []string{"a@example.com"}},
	"another mailbox":          {EmailAddresses: []string{"b@example.com"}},
	"mailbox below":            {EmailAddresses: []string{"b@x.example.com"}},
	"mailbox elsewhere":        {EmailAddresses: []string{"b@example.org"}},
	"CN host":                  {Subject: pkix.Name{CommonName: "a.example.com"}},
	"CN host elsewhere":        {Subject: pkix.Name{CommonName: "a.example.org"}},
	"CN host excluded":         {Subject: pkix.Name{CommonName: "A.Secret.example.com"}},
	"CN host elsewhere, URI":   {Subject: pkix.Name{CommonName: "a.example.org"}, URIs: uris("spiffe://cluster.local/ns/a")},
	"CN host elsewhere, DNS":   {Subject: pkix.Name{CommonName: "a.example.org"}, DNSNames: []string{"a.example.com"}},
	"CN of a node":             {Subject: pkix.Name{CommonName: "system:node:a"}},
	"CN of one word":           {Subject: pkix.Name{CommonName: "web"}},
	"CN of words with a dot":   {Subject: pkix.Name{CommonName: "Our v1.2 service"}},
	"CN with a hyphen and dot": {Subject: pkix.Name{CommonName: "-a.example.org"}},
}

// What GnuTLS refuses, unlike OpenSSL and Go, and why: these are signed all the same.
var gnuTLSRefuses = map[string]func(ca, request string) bool{
	"it takes every common name for a DNS name where there is no other": func(ca, request string) bool {
		return strings.HasSuffix(ca, "DNS") && strings.HasPrefix(ca, "permitted") && strings.HasPrefix(request, "CN ")
	},
	"it cannot read excluded URIs": func(ca, request string) bool {
		return ca == "excluded URI" && (strings.HasPrefix(request, "SPIFFE") || strings.HasSuffix(request, "URI"))
	},
}

// goRefuses are requests that OpenSSL would accept, but crypto/x509, and so every verifier in Go, does not.
var goRefuses = map[string]string{"excluded DNS": "wildcard", "excluded email host": "mailbox below"}

// Whatever is signed below name constraints, OpenSSL accepts, and GnuTLS too but for what it is known to get wrong. Whatever is
// refused, OpenSSL or Go refuses.
func TestNameConstraintsAgainstOthers(t *testing.T) {
	requests := slices.Sorted(maps.Keys(named))
	for by, change := range constrained {
		t.Run(by, func(t *testing.T) {
			root := newIssuer(t, "Root", "ECDSA-P256", nil, func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = true; change(c) })
			w := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root))
			anchor := write(t, root)
			verdicts := map[string]error{}
			openSSL := []string{"verify", "-no-CApath", "-no-CAstore", "-CAfile", anchor}
			for _, of := range requests {
				key := signertest.Key(t, "ECDSA-P256")
				_, err := w.Sign(t.Context(), signertest.Request(t, key, named[of], nil, time.Hour))
				verdicts[of] = err
				forced := force(t, root, named[of], key.Public())
				openSSL = append(openSSL, forced)
				if err != nil {
					wantPermanent(t, err)
					if !strings.Contains(err.Error(), "name constraint") || !strings.Contains(err.Error(), strings.Fields(by)[0]+" ") {
						t.Errorf("%s: %v, want it to name the constraints", of, err)
					}
					continue
				}
				known := slices.ContainsFunc(slices.Collect(maps.Values(gnuTLSRefuses)), func(is func(string, string) bool) bool { return is(by, of) })
				if err := exec.CommandContext(t.Context(), "certtool", "--verify", "--load-ca-certificate", anchor, "--infile", forced).Run(); err != nil && !known {
					t.Errorf("%s: signed, and GnuTLS refuses it", of)
				}
			}
			out, _ := exec.CommandContext(t.Context(), "openssl", openSSL...).CombinedOutput() // what it refuses is in the output
			refused := 0
			for i, of := range requests {
				accepted := strings.Contains(string(out), openSSL[5+i]+": OK\n")
				if (verdicts[of] == nil) != accepted && goRefuses[by] != of {
					t.Errorf("%s: signing: %v, OpenSSL accepts it: %t", of, verdicts[of], accepted)
				}
				if verdicts[of] != nil {
					refused++
				}
			}
			if refused == 0 || refused == len(named) {
				t.Errorf("%d of %d requests were refused", refused, len(named))
			}
		})
	}
}

// force returns a file with a certificate as a CA would sign it that does not look.
func force(t *testing.T, root *issuer, request *x509.CertificateRequest, public any) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: request.Subject, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses, URIs: request.URIs,
		EmailAddresses: request.EmailAddresses, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root.cert, public, root.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, &issuer{cert: leaf}, root)
}

// write returns a file with certificates.
func write(t *testing.T, certs ...*issuer) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.pem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(pemCerts(certs...)); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// Constraints of all CAs above hold, whichever has them.
func TestNameConstraintsAbove(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, constrained["permitted URI"])
	lower := newIssuer(t, "Lower", "ECDSA-P256", root, constrained["permitted email host"])
	w := newWorld(t, importedCA(), false, tlsSecret(t, lower.key, lower, root))
	for of, text := range map[string]string{
		"SPIFFE ID below": `URI "spiffe://a.cluster.local/ns/a" is not within those of CN=Root`,
		"mailbox below":   `email address "b@x.example.com" is not within those of CN=Lower`,
	} {
		_, err := w.Sign(t.Context(), signertest.Request(t, signertest.Key(t, "ECDSA-P256"), named[of], nil, time.Hour))
		wantPermanent(t, err)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want it to say %q", of, err, text)
		}
	}
}

// A CA that limits directory names, even where that is not critical, signs what OpenSSL refuses.
func TestConstraintsThatCannotBeHonoured(t *testing.T) {
	directory, err := asn1.Marshal(pkix.Name{Organization: []string{"Example"}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	for kind, base := range map[string]asn1.RawValue{
		"directory names": {Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: directory},
		"names of kind 8": {Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{0x2a, 3}},
	} {
		t.Run(kind, func(t *testing.T) {
			type subtree struct{ Base asn1.RawValue }
			value, err := asn1.Marshal(struct {
				Permitted []subtree `asn1:"tag:0"`
			}{[]subtree{{base}}})
			if err != nil {
				t.Fatal(err)
			}
			root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
			limited := func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: value}}
			}
			lower := newIssuer(t, "Lower", "ECDSA-P256", root, limited)
			w := newWorld(t, importedCA(), false, tlsSecret(t, lower.key, lower, root))
			err = w.Check(t.Context())
			wantReason(t, err, "CertificateInvalid")
			if err == nil || !strings.Contains(err.Error(), kind) {
				t.Errorf("%v, want it to say %q", err, kind)
			}
		})
	}
}
