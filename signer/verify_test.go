// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
)

type template = x509.Certificate

// leafOf is a backend that signs another leaf than the honest one.
func leafOf(change func(*template)) backend {
	return func(req csr.Request) ([]*x509.Certificate, error) {
		return []*x509.Certificate{mint(req, intermediate, change), intermediate.Certificate}, nil
	}
}

// below is a backend whose leaf is signed by another CA, followed by these certificates.
func below(by *authority, rest ...*x509.Certificate) backend {
	return func(req csr.Request) ([]*x509.Certificate, error) {
		return append([]*x509.Certificate{mint(req, by, nil)}, rest...), nil
	}
}

func addName(t *testing.T, tag int, value string) backend {
	return leafOf(func(c *template) {
		extension := altNameExtension(t, c, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)})
		c.ExtraExtensions = append(c.ExtraExtensions, extension)
	})
}

// refused checks that what the backend returns is refused with its own error, and that nothing but one event is written.
func refused(t *testing.T, b backend, want string) {
	t.Helper()
	w := newWorld(t, approved(t, nil), newPolicy(), newSigner("local"))
	w.backends["local"] = anchored{backend: b, anchors: []*x509.Certificate{root.Certificate}}
	result, err := w.reconcile(t)
	if err == nil && result.RequeueAfter < firstAgain {
		t.Errorf("result %v and no error, want to try again in minutes, or with the usual backoff", result)
	}
	if note := w.event(t).Note; !strings.Contains(note, want) || !strings.Contains(note, "verifying the returned chain") {
		t.Errorf("the event says %q, want %q", note, want)
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q", w.writes, want)
	}
	if status := w.stored(t).Status; len(status.Certificate) > 0 || len(status.Conditions) != 1 {
		t.Errorf("status is %v", status)
	}
}

func TestLeafWithOtherNamesIsRefused(t *testing.T) {
	other, _ := url.Parse("spiffe://cluster.local/ns/bank/sa/vault")
	otherCase, _ := url.Parse("spiffe://cluster.local/ns/shop/sa/Web")
	for name, c := range map[string]struct {
		b    backend
		want string
	}{
		"an extra DNS name":                   {leafOf(func(c *template) { c.DNSNames = append(c.DNSNames, "bank.example.org") }), "DNS names are"},
		"a missing DNS name":                  {leafOf(func(c *template) { c.DNSNames = c.DNSNames[:1] }), "DNS names are"},
		"a wider wildcard":                    {leafOf(func(c *template) { c.DNSNames = []string{"web.example.com", "*.example.com"} }), "DNS names are"},
		"no DNS names":                        {leafOf(func(c *template) { c.DNSNames = nil }), "DNS names are"},
		"an extra IP address":                 {leafOf(func(c *template) { c.IPAddresses = append(c.IPAddresses, net.IPv4(10, 1, 2, 4).To4()) }), "IP addresses are"},
		"a missing IP address":                {leafOf(func(c *template) { c.IPAddresses = c.IPAddresses[1:] }), "IP addresses are"},
		"an IPv4 address in IPv6 form":        {addName(t, 7, string(net.IPv4(10, 1, 2, 3).To16())), `IP addresses are ["::ffff:10.1.2.3"`},
		"an extra URI":                        {leafOf(func(c *template) { c.URIs = append(c.URIs, other) }), "URIs are"},
		"another URI":                         {leafOf(func(c *template) { c.URIs = []*url.URL{other} }), "URIs are"},
		"a missing URI":                       {leafOf(func(c *template) { c.URIs = nil }), "URIs are"},
		"a URI in other case":                 {leafOf(func(c *template) { c.URIs = []*url.URL{otherCase} }), "URIs are"},
		"a URI that url.Parse makes the same": {addName(t, 6, "SPIFFE://cluster.local/ns/shop/sa/web"), "URIs are"},
		"a URI with an empty fragment":        {addName(t, 6, "spiffe://cluster.local/ns/shop/sa/web#"), "URIs are"},
		"an extra email address":              {leafOf(func(c *template) { c.EmailAddresses = append(c.EmailAddresses, "ceo@example.com") }), "email addresses are"},
		"a missing email address":             {leafOf(func(c *template) { c.EmailAddresses = nil }), "email addresses are"},
		"an email address in other case":      {leafOf(func(c *template) { c.EmailAddresses = []string{"OPS@example.com"} }), "email addresses are"},
		"a registeredID":                      {addName(t, 8, "\x2a\x03\x04"), "of a kind that cannot be requested"},
		"an otherName, which crypto/x509 does not show": {leafOf(func(c *template) {
			upn := append([]byte{0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03, 0xa0, 0x07, 0x0c, 0x05}, "admin"...)
			c.ExtraExtensions = []pkix.Extension{altNameExtension(t, c, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: upn})}
		}), "of a kind that cannot be requested"},
		"a directoryName, which crypto/x509 does not show": {leafOf(func(c *template) {
			dn := rawSubject(t, "CN", "admin")
			c.ExtraExtensions = []pkix.Extension{altNameExtension(t, c, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: dn})}
		}), "of a kind that cannot be requested"},
		"another common name":                         {leafOf(func(c *template) { c.Subject.CommonName = "admin" }), "subject is"},
		"an extra organization":                       {leafOf(func(c *template) { c.Subject.Organization = []string{"shop", "system:masters"} }), "subject is"},
		"a missing organization":                      {leafOf(func(c *template) { c.Subject.Organization = nil }), "subject is"},
		"an attribute that cannot be requested":       {leafOf(func(c *template) { c.RawSubject = rawSubject(t, "UID", "0", "O", "shop", "CN", "web") }), "subject is"},
		"a second common name, hidden before the one": {leafOf(func(c *template) { c.RawSubject = rawSubject(t, "CN", "admin", "O", "shop", "CN", "web") }), "CN=admin"},
		"a subject in other case":                     {leafOf(func(c *template) { c.Subject.CommonName = "WEB" }), "subject is"},
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
			r := approved(t, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: c.requested} })
			w := newWorld(t, r, newPolicy(), newSigner("local"))
			w.backends["local"] = leafOf(func(leaf *template) { leaf.RawSubject = rawSubject(t, c.leaf...) })
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if got := len(w.stored(t).Status.Certificate) > 0; got != c.ok {
				t.Errorf("issued: %t, want %t", got, c.ok)
			}
		})
	}
}

// Istio's sidecars ask for O="", which some CAs leave out.
func TestAttributesWithoutAValue(t *testing.T) {
	r := approved(t, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{Organization: []string{""}} })
	w := newWorld(t, r, newPolicy(), newSigner("local"))
	w.backends["local"] = leafOf(func(leaf *template) { leaf.RawSubject = rawSubject(t) })
	if _, err := w.reconcile(t); err != nil || len(issued(t, w)) == 0 {
		t.Errorf("error %v", err)
	}
}

func TestLeafWithOtherPowersIsRefused(t *testing.T) {
	critical := func(oid asn1.ObjectIdentifier, critical bool) backend {
		return leafOf(func(c *template) {
			c.ExtraExtensions = []pkix.Extension{{Id: oid, Critical: critical, Value: []byte{5, 0}}}
		})
	}
	for name, c := range map[string]struct {
		b    backend
		want string
	}{
		"another key":                 {leafOf(func(c *template) { c.PublicKey = &stranger.key.PublicKey }), "for another key"},
		"the CA's key":                {leafOf(func(c *template) { c.PublicKey = &intermediate.key.PublicKey }), "for another key"},
		"a CA":                        {leafOf(func(c *template) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), "CA flag is true"},
		"an extra key usage":          {leafOf(func(c *template) { c.KeyUsage |= x509.KeyUsageCertSign }), "key usages that were not requested"},
		"no key usage":                {leafOf(func(c *template) { c.KeyUsage = 0 }), "no key usage"},
		"an extra extended key usage": {leafOf(func(c *template) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }), "extended key usage 3"},
		"any extended key usage":      {leafOf(func(c *template) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }), "extended key usage 0"},
		"no extended key usage":       {leafOf(func(c *template) { c.ExtKeyUsage = nil }), "no extended key usage"},
		"an unknown extended key usage": {leafOf(func(c *template) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}} // logon with a smart card
		}), "unknown extended key usages"},
		"an unknown extension":          {critical(asn1.ObjectIdentifier{1, 2, 3, 4}, false), "unknown extension 1.2.3.4"},
		"an unknown critical extension": {critical(asn1.ObjectIdentifier{1, 2, 3, 4}, true), "unknown extension 1.2.3.4"},
		"name constraints":              {leafOf(func(c *template) { c.PermittedDNSDomains = []string{"example.com"} }), "unknown extension 2.5.29.30"},
		"a precertificate":              {critical(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, true), "unknown extension 1.3.6.1.4.1.11129.2.4.3"},
		"a longer life":                 {leafOf(func(c *template) { c.NotAfter = now.Add(24*time.Hour + skew + time.Second) }), "longer than the 24h0m0s"},
		"not yet valid":                 {leafOf(func(c *template) { c.NotBefore = now.Add(skew + time.Second) }), "valid only from"},
		"expired":                       {leafOf(func(c *template) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now }), "expired at"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.b, c.want) })
	}
}

func TestChainThatDoesNotHoldIsRefused(t *testing.T) {
	notCA := newAuthority("no CA", root, func(c *template) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	unsaid := newAuthority("says nothing", root, func(c *template) { c.BasicConstraintsValid, c.IsCA = false, false })
	noSigning := newAuthority("signs CRLs only", root, func(c *template) { c.KeyUsage = x509.KeyUsageCRLSign })
	expired := newAuthority("expired", root, func(c *template) { c.NotAfter = now.Add(-time.Second) })
	future := newAuthority("of the future", root, func(c *template) { c.NotBefore = now.Add(time.Hour) })
	twin := newAuthority("intermediate", stranger, nil) // the same name, another key
	constrained := newAuthority("constrained", root, func(c *template) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	leafCA := newAuthority("below a CA of no CAs", newAuthority("of no CAs", root, func(c *template) { c.MaxPathLenZero = true }), nil)
	eleven := slices.Repeat([]*x509.Certificate{intermediate.Certificate}, 10)
	large := newAuthority("large", root, func(c *template) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: bytes.Repeat([]byte{0}, maxChainBytes)}}
	})
	raw := *intermediate.Certificate // fields of one certificate, and bytes of another
	for name, c := range map[string]struct {
		b    backend
		want string
	}{
		"empty":               {func(csr.Request) ([]*x509.Certificate, error) { return nil, nil }, "holds 0 certificates"},
		"eleven certificates": {below(intermediate, eleven...), "holds 11 certificates"},
		"a hole":              {below(intermediate, nil), "certificate 1 is missing"},
		"too many bytes":      {below(large, large.Certificate), "bytes that are allowed"},
		"the CA first": {func(req csr.Request) ([]*x509.Certificate, error) {
			return []*x509.Certificate{intermediate.Certificate, mint(req, intermediate, nil)}, nil
		}, "for another key"},
		"CAs in another order":                  {below(intermediate, root.Certificate, intermediate.Certificate), "out of order"},
		"a stranger's CA":                       {below(intermediate, stranger.Certificate), "out of order"},
		"a CA of the same name and another key": {below(intermediate, twin.Certificate), "checking the signature"},
		"the leaf twice": {func(req csr.Request) ([]*x509.Certificate, error) {
			leaf := mint(req, intermediate, nil)
			return []*x509.Certificate{leaf, leaf}, nil
		}, "is no CA"},
		"an intermediate that is no CA":     {below(notCA, notCA.Certificate), "is no CA"},
		"an intermediate that may be no CA": {below(unsaid, unsaid.Certificate), "is no CA"},
		"an intermediate that may not sign": {below(noSigning, noSigning.Certificate), "checking the signature"},
		"an expired intermediate":           {below(expired, expired.Certificate), "is not valid now"},
		"an intermediate of the future":     {below(future, future.Certificate), "is not valid now"},
		"a chain to another root":           {below(stranger, stranger.Certificate), "following the chain to the trust anchors"},
		"a chain without its intermediate":  {below(intermediate), "following the chain to the trust anchors"},
		"a CA whose constraints forbid it":  {below(constrained, constrained.Certificate), "following the chain to the trust anchors"},
		"a CA below one that may have none": {below(leafCA, leafCA.Certificate), "following the chain to the trust anchors"},
		"fields that are not what the bytes say": {func(req csr.Request) ([]*x509.Certificate, error) {
			forged := *mint(req, intermediate, nil)
			forged.Raw = mint(req, intermediate, func(c *template) { c.DNSNames = append(c.DNSNames, "bank.example.org") }).Raw
			return []*x509.Certificate{&forged, &raw}, nil
		}, "bank.example.org"},
		"no bytes": {func(req csr.Request) ([]*x509.Certificate, error) {
			bare := *mint(req, intermediate, nil)
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
		b       backend
		anchors []*x509.Certificate
	}{
		"without known anchors":       {honest, nil},
		"with two anchors":            {honest, []*x509.Certificate{stranger.Certificate, root.Certificate}},
		"the root in the chain":       {below(intermediate, intermediate.Certificate, root.Certificate), []*x509.Certificate{root.Certificate}},
		"signed by the root":          {below(root), []*x509.Certificate{root.Certificate}},
		"a shorter life":              {leafOf(func(c *template) { c.NotAfter = now.Add(time.Hour) }), nil},
		"a clock that is ahead":       {leafOf(func(c *template) { c.NotBefore = now.Add(skew) }), []*x509.Certificate{root.Certificate}},
		"fewer usages":                {leafOf(func(c *template) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), nil},
		"names in another order":      {leafOf(func(c *template) { slices.Reverse(c.DNSNames); slices.Reverse(c.IPAddresses) }), nil},
		"a name twice":                {leafOf(func(c *template) { c.DNSNames = append(c.DNSNames, c.DNSNames[0]) }), nil},
		"a DNS name in capitals":      {leafOf(func(c *template) { c.DNSNames = []string{"WEB.example.com", "*.apps.Example.com"} }), nil},
		"attributes in another order": {leafOf(func(c *template) { c.RawSubject = rawSubject(t, "CN", "web", "O", "shop") }), nil},
		"where the CA keeps its affairs": {leafOf(func(c *template) {
			c.CRLDistributionPoints, c.OCSPServer = []string{"http://ca.example.com/crl"}, []string{"http://ca.example.com/ocsp"}
			c.PolicyIdentifiers = []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}}
		}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, approved(t, nil), newPolicy(), newSigner("local"))
			w.backends["local"] = anchored{backend: c.b, anchors: c.anchors}
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if want := []string{"patch status web"}; !slices.Equal(w.writes, want) || len(issued(t, w)) == 0 {
				t.Errorf("writes %q, want %q", w.writes, want)
			}
		})
	}
}
