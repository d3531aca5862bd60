// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

func (s Subject) testKeys(t *testing.T) {
	for _, algorithm := range []string{"RSA-2048", "ECDSA-P256", "ECDSA-P384", "ECDSA-P521", "Ed25519"} {
		t.Run(algorithm, func(t *testing.T) {
			s.try(t, s.request(t, algorithm, dnsRequest(), nil))
		})
	}
}

func (s Subject) testNames(t *testing.T) {
	spiffe := []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/web"}}
	var hundreds []string
	for i := range cmp.Or(s.Cannot.MoreNames, 300) {
		hundreds = append(hundreds, fmt.Sprintf("n%d.web.shop.svc", i))
	}
	for name, template := range map[string]*x509.CertificateRequest{
		"one DNS name":         {DNSNames: []string{"web.example.com"}},
		"wildcard":             {DNSNames: []string{"*.web.example.com"}},
		"single label":         {DNSNames: []string{"web"}},
		"hundreds of names":    {DNSNames: hundreds},
		"one more":             {DNSNames: append([]string{"more.web.shop.svc"}, hundreds...)},
		"IPv4 and IPv6":        {IPAddresses: []net.IP{net.IPv4(198, 18, 0, 7), net.ParseIP("2001:db8::7")}},
		"SPIFFE ID":            {URIs: spiffe},
		"email address":        {EmailAddresses: []string{"ops@example.com"}},
		"istio sidecar":        {Subject: pkix.Name{Organization: []string{""}}, URIs: spiffe},
		"all kinds":            {Subject: pkix.Name{CommonName: "web"}, DNSNames: []string{"web.example.com"}, IPAddresses: []net.IP{net.IPv4(198, 18, 0, 7)}, URIs: spiffe, EmailAddresses: []string{"ops@example.com"}},
		"common name only":     {Subject: pkix.Name{CommonName: "system:node:worker-1", Organization: []string{"system:nodes"}}},
		"64 characters of CN":  {Subject: pkix.Name{CommonName: strings.Repeat("n", 64)}, DNSNames: []string{"web.example.com"}},
		"two organizations":    {Subject: pkix.Name{Organization: []string{"a", "b"}, OrganizationalUnit: []string{"c"}}, DNSNames: []string{"web.example.com"}},
		"CN among the SANs":    {Subject: pkix.Name{CommonName: "web.example.com"}, DNSNames: []string{"www.example.com", "web.example.com"}},
		"CN outside the SANs":  {Subject: pkix.Name{CommonName: "other.example.com"}, DNSNames: []string{"web.example.com"}},
		"subject of all kinds": {Subject: pkix.Name{Country: []string{"NO"}, Province: []string{"Viken"}, Locality: []string{"Moss"}, StreetAddress: []string{"Kai 1"}, PostalCode: []string{"1530"}, SerialNumber: "42", CommonName: "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.try(t, s.request(t, s.easiest(), template, nil))
		})
	}
}

func (s Subject) testUsages(t *testing.T) {
	for _, usages := range [][]certificatesv1.KeyUsage{
		{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth},
		{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature},
		{certificatesv1.UsageServerAuth},
		{certificatesv1.UsageDigitalSignature},
	} {
		t.Run(fmt.Sprint(usages), func(t *testing.T) {
			s.try(t, s.request(t, "RSA-2048", dnsRequest(), usages))
		})
	}
}

func (s Subject) testCA(t *testing.T) {
	template := CARequest("Shop issuing CA")
	template.URIs = []*url.URL{{Scheme: "spiffe", Host: "cluster.local"}}
	req := s.request(t, s.easiest(), template, []certificatesv1.KeyUsage{certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign})
	if s.IsCA {
		s.try(t, req)
		return
	}
	s.refuses(t, req, append(s.Cannot.fields(req), "isCA")...)
}

// checkFields checks that the leaf holds exactly what was asked for.
func (s Subject) checkFields(t *testing.T, leaf *x509.Certificate, req csr.Request) {
	t.Helper()
	if k, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(req.PublicKey) {
		t.Error("the leaf has another key than the request")
	}
	asked := req.Subject
	if s.Cannot.OtherCommonNames && (leaf.Subject.CommonName == "" || slices.Contains(req.DNSNames, strings.ToLower(leaf.Subject.CommonName))) {
		asked.CommonName = leaf.Subject.CommonName
	}
	same(t, "attributes of the subject", attributes(leaf.Subject.Names), attributes(slices.Concat(asked.ToRDNSequence()...)))
	same(t, "DNS names", leaf.DNSNames, req.DNSNames)
	same(t, "email addresses", leaf.EmailAddresses, req.EmailAddresses)
	same(t, "URIs", texts(leaf.URIs), texts(req.URIs))
	var addresses []netip.Addr
	for _, ip := range leaf.IPAddresses {
		a, _ := netip.AddrFromSlice(ip)
		addresses = append(addresses, a.Unmap())
	}
	same(t, "IP addresses", texts(addresses), texts(req.IPAddresses))
	s.checkUsages(t, leaf, req)
	if leaf.IsCA != req.IsCA || (!leaf.BasicConstraintsValid && !s.Cannot.BasicConstraints) {
		t.Errorf("basic constraints valid: %t, CA: %t, want CA: %t", leaf.BasicConstraintsValid, leaf.IsCA, req.IsCA)
	}
	checkExtensions(t, leaf)
	if bits := leaf.SerialNumber.BitLen(); leaf.SerialNumber.Sign() <= 0 || (bits < 64 && !s.Cannot.LongSerials) || bits > 159 {
		t.Errorf("serial number %d: it must be positive, of 64 bits or more, and of 20 octets at most", leaf.SerialNumber)
	}
}

// checkUsages checks that the leaf has the usages that were asked for, or those that the backend's certificates always have.
func (s Subject) checkUsages(t *testing.T, leaf *x509.Certificate, req csr.Request) {
	t.Helper()
	want := req.Usages
	if len(s.Cannot.OtherUsages) > 0 {
		want = s.Cannot.OtherUsages
	}
	usage, extended, err := csr.X509Usages(want)
	if err != nil {
		t.Fatalf("translating usages: %v", err)
	}
	if leaf.KeyUsage != usage {
		t.Errorf("key usage is %b, want %b", leaf.KeyUsage, usage)
	}
	same(t, "extended key usages", texts(leaf.ExtKeyUsage), texts(extended))
}

// checkExtensions checks that there is no extension beyond those of an ordinary certificate, and which are critical.
func checkExtensions(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	// Those that the request cannot ask for but that a CA adds of its own accord: CRL distribution points, certificate
	// policies, authority information access, precertificate SCTs.
	added := []string{"2.5.29.31", "2.5.29.32", "1.3.6.1.5.5.7.1.1", "1.3.6.1.4.1.11129.2.4.2"}
	critical := map[string]bool{
		"2.5.29.15": true, "2.5.29.19": true, "2.5.29.14": false, "2.5.29.35": false, "2.5.29.37": false,
		"2.5.29.17": len(leaf.Subject.Names) == 0,
	}
	for _, e := range leaf.Extensions {
		want, known := critical[e.Id.String()]
		if !known && !slices.Contains(added, e.Id.String()) {
			t.Errorf("the leaf has the extension %s, which nobody asked for", e.Id)
		}
		if known && e.Critical != want {
			t.Errorf("extension %s: critical is %t, want %t", e.Id, e.Critical, want)
		}
	}
}

// attributes writes the attributes of a subject that have a value.
func attributes(all []pkix.AttributeTypeAndValue) (out []string) {
	for _, a := range all {
		if a.Value != "" {
			out = append(out, pkix.RDNSequence{{a}}.String())
		}
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s are %q, want %q", what, got, want)
	}
}

func texts[T any](values []T) (out []string) {
	for _, v := range values {
		out = append(out, fmt.Sprint(v))
	}
	return out
}
