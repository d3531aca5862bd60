// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/internal/example"
)

func TestLeafWithOtherNamesIsRefused(t *testing.T) {
	other, _ := url.Parse("spiffe://cluster.local/ns/bank/sa/vault")
	otherCase, _ := url.Parse("spiffe://cluster.local/ns/shop/sa/Web")
	for name, c := range map[string]struct {
		b    example.Backend
		want string
	}{
		"an extra DNS name":                   {example.LeafOf(func(c *template) { c.DNSNames = append(c.DNSNames, "bank.example.org") }), "DNS names are"},
		"a missing DNS name":                  {example.LeafOf(func(c *template) { c.DNSNames = c.DNSNames[:1] }), "DNS names are"},
		"a wider wildcard":                    {example.LeafOf(func(c *template) { c.DNSNames = []string{"web.example.com", "*.example.com"} }), "DNS names are"},
		"no DNS names":                        {example.LeafOf(func(c *template) { c.DNSNames = nil }), "DNS names are"},
		"an extra IP address":                 {example.LeafOf(func(c *template) { c.IPAddresses = append(c.IPAddresses, net.IPv4(10, 1, 2, 4).To4()) }), "IP addresses are"},
		"a missing IP address":                {example.LeafOf(func(c *template) { c.IPAddresses = c.IPAddresses[1:] }), "IP addresses are"},
		"an IPv4 address in IPv6 form":        {addName(t, 7, string(net.IPv4(10, 1, 2, 3).To16())), `IP addresses are ["::ffff:10.1.2.3"`},
		"an extra URI":                        {example.LeafOf(func(c *template) { c.URIs = append(c.URIs, other) }), "URIs are"},
		"another URI":                         {example.LeafOf(func(c *template) { c.URIs = []*url.URL{other} }), "URIs are"},
		"a missing URI":                       {example.LeafOf(func(c *template) { c.URIs = nil }), "URIs are"},
		"a URI in other case":                 {example.LeafOf(func(c *template) { c.URIs = []*url.URL{otherCase} }), "URIs are"},
		"a URI that url.Parse makes the same": {addName(t, 6, "SPIFFE://cluster.local/ns/shop/sa/web"), "URIs are"},
		"a URI with an empty fragment":        {addName(t, 6, "spiffe://cluster.local/ns/shop/sa/web#"), "URIs are"},
		"an extra email address":              {example.LeafOf(func(c *template) { c.EmailAddresses = append(c.EmailAddresses, "ceo@example.com") }), "email addresses are"},
		"a missing email address":             {example.LeafOf(func(c *template) { c.EmailAddresses = nil }), "email addresses are"},
		"an email address in other case":      {example.LeafOf(func(c *template) { c.EmailAddresses = []string{"OPS@example.com"} }), "email addresses are"},
		"a registeredID":                      {addName(t, 8, "\x2a\x03\x04"), "of a kind that cannot be requested"},
		"an otherName, which crypto/x509 does not show": {example.LeafOf(func(c *template) {
			upn := append([]byte{0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03, 0xa0, 0x07, 0x0c, 0x05}, "admin"...)
			c.ExtraExtensions = []pkix.Extension{altNameExtension(t, c, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: upn})}
		}), "of a kind that cannot be requested"},
		"a directoryName, which crypto/x509 does not show": {example.LeafOf(func(c *template) {
			dn := rawSubject(t, "CN", "admin")
			c.ExtraExtensions = []pkix.Extension{altNameExtension(t, c, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: dn})}
		}), "of a kind that cannot be requested"},
		"another common name":                         {example.LeafOf(func(c *template) { c.Subject.CommonName = "admin" }), "subject is"},
		"an extra organization":                       {example.LeafOf(func(c *template) { c.Subject.Organization = []string{"shop", "system:masters"} }), "subject is"},
		"a missing organization":                      {example.LeafOf(func(c *template) { c.Subject.Organization = nil }), "subject is"},
		"an attribute that cannot be requested":       {example.LeafOf(func(c *template) { c.RawSubject = rawSubject(t, "UID", "0", "O", "shop", "CN", "web") }), "subject is"},
		"a second common name, hidden before the one": {example.LeafOf(func(c *template) { c.RawSubject = rawSubject(t, "CN", "admin", "O", "shop", "CN", "web") }), "CN=admin"},
		"a subject in other case":                     {example.LeafOf(func(c *template) { c.Subject.CommonName = "WEB" }), "subject is"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.b, c.want) })
	}
}

// Verifiers that look at the common name take it for a DNS name. Public CAs choose it among the DNS names or leave it out, which grants
// nothing; anything else would.
func TestCommonNames(t *testing.T) {
	for name, c := range map[string]struct {
		requested string
		leaf      []string // attributes and their values
		ok        bool
	}{
		"the one requested":                      {"web", []string{"CN", "web"}, true},
		"none requested, none there":             {"", nil, true},
		"none requested, a DNS name":             {"", []string{"CN", "web.example.com"}, true},
		"none requested, a DNS name in capitals": {"", []string{"CN", "WEB.example.com"}, true},
		"none requested, a name of somebody":     {"", []string{"CN", "bank.example.org"}, false},
		"none requested, a name that is no SAN":  {"", []string{"CN", "example.com"}, false},
		"none requested, an email address":       {"", []string{"CN", "ops@example.com"}, false},
		"none requested, one without a value":    {"", []string{"CN", ""}, true},
		"a DNS name requested, none there":       {"web.example.com", nil, true},
		"a DNS name requested, another one":      {"web.example.com", []string{"CN", "*.apps.example.com"}, true},
		"a DNS name requested, in capitals":      {"web.example.com", []string{"CN", "WEB.EXAMPLE.COM"}, true},
		"requested in capitals, none there":      {"WEB.example.com", nil, true},
		"a DNS name requested, another name":     {"web.example.com", []string{"CN", "admin"}, false},
		"no DNS name requested, none there":      {"web", nil, false},
		"no DNS name requested, a DNS name":      {"web", []string{"CN", "web.example.com"}, false},
		"no DNS name requested, in capitals":     {"web", []string{"CN", "WEB"}, false},
		"a DNS name and another name":            {"", []string{"CN", "web.example.com", "CN", "admin"}, false},
		"two DNS names":                          {"", []string{"CN", "web.example.com", "CN", "*.apps.example.com"}, false},
		"the one requested, twice":               {"web", []string{"CN", "web", "CN", "web"}, false},
		"the one requested behind another":       {"web", []string{"CN", "admin", "CN", "web"}, false},
		"an attribute beside":                    {"", []string{"CN", "web.example.com", "UID", "0"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			req := example.Request(t, nil, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: c.requested} }).WithDuration(time.Hour)
			_, err := from(example.LeafOf(func(leaf *template) { leaf.RawSubject = rawSubject(t, c.leaf...) }), req)
			if ok := err == nil; ok != c.ok {
				t.Errorf("error %v, want none: %t", err, c.ok)
			}
		})
	}
}

// Istio's sidecars ask for O="", which some CAs leave out.
func TestAttributesWithoutAValue(t *testing.T) {
	req := example.Request(t, nil, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{Organization: []string{""}} }).WithDuration(time.Hour)
	if _, err := from(example.LeafOf(func(leaf *template) { leaf.RawSubject = rawSubject(t) }), req); err != nil {
		t.Errorf("error %v", err)
	}
}

func TestLeafWithOtherPowersIsRefused(t *testing.T) {
	critical := func(oid asn1.ObjectIdentifier, critical bool) example.Backend {
		return example.LeafOf(func(c *template) {
			c.ExtraExtensions = []pkix.Extension{{Id: oid, Critical: critical, Value: []byte{5, 0}}}
		})
	}
	for name, c := range map[string]struct {
		b    example.Backend
		want string
	}{
		"another key":                 {example.LeafOf(func(c *template) { c.PublicKey = &example.Stranger.Key.PublicKey }), "for another key"},
		"the CA's key":                {example.LeafOf(func(c *template) { c.PublicKey = &example.Intermediate.Key.PublicKey }), "for another key"},
		"a CA":                        {example.LeafOf(func(c *template) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), "CA flag is true"},
		"an extra key usage":          {example.LeafOf(func(c *template) { c.KeyUsage |= x509.KeyUsageCertSign }), "key usages that were not requested"},
		"no key usage":                {example.LeafOf(func(c *template) { c.KeyUsage = 0 }), "no key usage"},
		"an extra extended key usage": {example.LeafOf(func(c *template) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }), "extended key usage 3"},
		"any extended key usage":      {example.LeafOf(func(c *template) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }), "extended key usage 0"},
		"no extended key usage":       {example.LeafOf(func(c *template) { c.ExtKeyUsage = nil }), "no extended key usage"},
		"an unknown extended key usage": {example.LeafOf(func(c *template) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}} // logon with a smart card
		}), "unknown extended key usages"},
		"an unknown extension":          {critical(asn1.ObjectIdentifier{1, 2, 3, 4}, false), "unknown extension 1.2.3.4"},
		"an unknown critical extension": {critical(asn1.ObjectIdentifier{1, 2, 3, 4}, true), "unknown extension 1.2.3.4"},
		"name constraints":              {example.LeafOf(func(c *template) { c.PermittedDNSDomains = []string{"example.com"} }), "unknown extension 2.5.29.30"},
		"a precertificate":              {critical(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, true), "unknown extension 1.3.6.1.4.1.11129.2.4.3"},
		"a longer life":                 {example.LeafOf(func(c *template) { c.NotAfter = now.Add(24*time.Hour + skew + time.Second) }), "longer than the 24h0m0s"},
		"not yet valid":                 {example.LeafOf(func(c *template) { c.NotBefore = now.Add(skew + time.Second) }), "valid only from"},
		"expired":                       {example.LeafOf(func(c *template) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now }), "expired at"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.b, c.want) })
	}
}

func TestChainThatDoesNotHoldIsRefused(t *testing.T) {
	notCA := example.NewCA("no CA", example.Root, func(c *template) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	unsaid := example.NewCA("says nothing", example.Root, func(c *template) { c.BasicConstraintsValid, c.IsCA = false, false })
	noSigning := example.NewCA("signs CRLs only", example.Root, func(c *template) { c.KeyUsage = x509.KeyUsageCRLSign })
	expired := example.NewCA("expired", example.Root, func(c *template) { c.NotAfter = now.Add(-time.Second) })
	future := example.NewCA("of the future", example.Root, func(c *template) { c.NotBefore = now.Add(time.Hour) })
	twin := example.NewCA("intermediate", example.Stranger, nil) // the same name, another key
	constrained := example.NewCA("constrained", example.Root, func(c *template) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	leafCA := example.NewCA("below a CA of no CAs", example.NewCA("of no CAs", example.Root, func(c *template) { c.MaxPathLenZero = true }), nil)
	eleven := slices.Repeat([]*x509.Certificate{example.Intermediate.Certificate}, 10)
	large := example.NewCA("large", example.Root, func(c *template) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: bytes.Repeat([]byte{0}, maxChainBytes)}}
	})
	raw := *example.Intermediate.Certificate // fields of one certificate, and bytes of another
	for name, c := range map[string]struct {
		b    example.Backend
		want string
	}{
		"empty":               {func(csr.Request) ([]*x509.Certificate, error) { return nil, nil }, "holds 0 certificates"},
		"eleven certificates": {example.Below(example.Intermediate, eleven...), "holds 11 certificates"},
		"a hole":              {example.Below(example.Intermediate, nil), "certificate 1 is missing"},
		"too many bytes":      {example.Below(large, large.Certificate), "bytes that are allowed"},
		"the CA first": {func(req csr.Request) ([]*x509.Certificate, error) {
			return []*x509.Certificate{example.Intermediate.Certificate, example.Leaf(req, example.Intermediate, nil)}, nil
		}, "for another key"},
		"CAs in another order":                  {example.Below(example.Intermediate, example.Root.Certificate, example.Intermediate.Certificate), "out of order"},
		"a stranger's CA":                       {example.Below(example.Intermediate, example.Stranger.Certificate), "out of order"},
		"a CA of the same name and another key": {example.Below(example.Intermediate, twin.Certificate), "checking the signature"},
		"the leaf twice": {func(req csr.Request) ([]*x509.Certificate, error) {
			leaf := example.Leaf(req, example.Intermediate, nil)
			return []*x509.Certificate{leaf, leaf}, nil
		}, "is no CA"},
		"an intermediate that is no CA":     {example.Below(notCA, notCA.Certificate), "is no CA"},
		"an intermediate that may be no CA": {example.Below(unsaid, unsaid.Certificate), "is no CA"},
		"an intermediate that may not sign": {example.Below(noSigning, noSigning.Certificate), "checking the signature"},
		"an expired intermediate":           {example.Below(expired, expired.Certificate), "is not valid now"},
		"an intermediate of the future":     {example.Below(future, future.Certificate), "is not valid now"},
		"a chain to another root":           {example.Below(example.Stranger, example.Stranger.Certificate), "following the chain to the trust anchors"},
		"a chain without its intermediate":  {example.Below(example.Intermediate), "following the chain to the trust anchors"},
		"a CA whose constraints forbid it":  {example.Below(constrained, constrained.Certificate), "following the chain to the trust anchors"},
		"a CA below one that may have none": {example.Below(leafCA, leafCA.Certificate), "following the chain to the trust anchors"},
		"fields that are not what the bytes say": {func(req csr.Request) ([]*x509.Certificate, error) {
			forged := *example.Leaf(req, example.Intermediate, nil)
			forged.Raw = example.Leaf(req, example.Intermediate, func(c *template) { c.DNSNames = append(c.DNSNames, "bank.example.org") }).Raw
			return []*x509.Certificate{&forged, &raw}, nil
		}, "bank.example.org"},
		"no bytes": {func(req csr.Request) ([]*x509.Certificate, error) {
			bare := *example.Leaf(req, example.Intermediate, nil)
			bare.Raw = nil
			return []*x509.Certificate{&bare, &raw}, nil
		}, "parsing certificate 0"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.b, c.want) })
	}
}

// What differs from the request only in ways that grant nothing is accepted.
func TestHonestVariationsAreAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		b       example.Backend
		anchors []*x509.Certificate
	}{
		"without known anchors":       {example.Honest, nil},
		"with two anchors":            {example.Honest, []*x509.Certificate{example.Stranger.Certificate, example.Root.Certificate}},
		"the root in the chain":       {example.Below(example.Intermediate, example.Intermediate.Certificate, example.Root.Certificate), []*x509.Certificate{example.Root.Certificate}},
		"signed by the root":          {example.Below(example.Root), []*x509.Certificate{example.Root.Certificate}},
		"a shorter life":              {example.LeafOf(func(c *template) { c.NotAfter = now.Add(time.Hour) }), nil},
		"a clock that is ahead":       {example.LeafOf(func(c *template) { c.NotBefore = now.Add(skew) }), []*x509.Certificate{example.Root.Certificate}},
		"fewer usages":                {example.LeafOf(func(c *template) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), nil},
		"names in another order":      {example.LeafOf(func(c *template) { slices.Reverse(c.DNSNames); slices.Reverse(c.IPAddresses) }), nil},
		"a name twice":                {example.LeafOf(func(c *template) { c.DNSNames = append(c.DNSNames, c.DNSNames[0]) }), nil},
		"a DNS name in capitals":      {example.LeafOf(func(c *template) { c.DNSNames = []string{"WEB.example.com", "*.apps.Example.com"} }), nil},
		"attributes in another order": {example.LeafOf(func(c *template) { c.RawSubject = rawSubject(t, "CN", "web", "O", "shop") }), nil},
		"where the CA keeps its affairs": {example.LeafOf(func(c *template) {
			c.CRLDistributionPoints, c.OCSPServer = []string{"http://ca.example.com/crl"}, []string{"http://ca.example.com/ocsp"}
			c.PolicyIdentifiers = []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}}
		}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if chain, err := from(c.b, example.Request(t, nil, nil).WithDuration(24*time.Hour), c.anchors...); err != nil || len(chain) == 0 {
				t.Errorf("%d certificates, error %v", len(chain), err)
			}
		})
	}
}
