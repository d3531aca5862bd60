// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// What a backend cannot do is what it is excused from: each excuse must hold for what it names and for nothing else.
func TestCannot(t *testing.T) {
	names := []string{"web.example.com"}
	uri := []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/web"}}
	for name, c := range map[string]struct {
		cannot   Cannot
		template *x509.CertificateRequest
		key      string
		want     []string
	}{
		"it can do everything": {Cannot{}, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "web", Country: []string{"NO"}}, DNSNames: []string{"*.example.com", "b"}, URIs: uri}, "Ed25519", nil},
		"a field":              {Cannot{Fields: []string{"uris", "organizations"}}, &x509.CertificateRequest{DNSNames: names, URIs: uri, Subject: pkix.Name{Organization: []string{"shop"}}}, "", []string{"uris", "organizations"}},
		"another field":        {Cannot{Fields: []string{"uris", "organizations"}}, &x509.CertificateRequest{DNSNames: names, IPAddresses: []net.IP{net.IPv4(198, 18, 0, 7)}, Subject: pkix.Name{Country: []string{"NO"}}}, "", nil},
		"a field of no value":  {Cannot{Fields: []string{"organizations"}}, &x509.CertificateRequest{DNSNames: names, Subject: pkix.Name{Organization: []string{""}}}, "", nil},
		"a wildcard":           {Cannot{Wildcards: true}, &x509.CertificateRequest{DNSNames: []string{"*.example.com"}}, "", []string{"dnsNames"}},
		"no wildcard":          {Cannot{Wildcards: true}, &x509.CertificateRequest{DNSNames: names}, "", nil},
		"a single label":       {Cannot{SingleLabels: true}, &x509.CertificateRequest{DNSNames: []string{"web"}}, "", []string{"dnsNames"}},
		"no single label":      {Cannot{SingleLabels: true}, &x509.CertificateRequest{DNSNames: names}, "", nil},
		"a common name alone":  {Cannot{CommonNameAlone: true}, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "web"}}, "", []string{"dnsNames"}},
		"not alone":            {Cannot{CommonNameAlone: true}, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "web"}, URIs: uri}, "", nil},
		"another common name":  {Cannot{OtherCommonNames: true}, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "web"}, DNSNames: names}, "", []string{"commonName"}},
		"one of the names":     {Cannot{OtherCommonNames: true}, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "WEB.example.com"}, DNSNames: names}, "", nil},
		"a key":                {Cannot{Keys: []string{"ECDSA-P521"}}, &x509.CertificateRequest{DNSNames: names}, "ECDSA-P521", []string{"key"}},
		"another key":          {Cannot{Keys: []string{"ECDSA-P521", "RSA-2048"}}, &x509.CertificateRequest{DNSNames: names}, "ECDSA-P384", nil},
		"one name too many":    {Cannot{MoreNames: 1}, &x509.CertificateRequest{DNSNames: names, URIs: uri}, "", []string{"dnsNames"}},
		"just so many":         {Cannot{MoreNames: 2}, &x509.CertificateRequest{DNSNames: names, URIs: uri}, "", nil},
		"a usage that is always there": {
			Cannot{OtherUsages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth, certificatesv1.UsageKeyEncipherment}},
			&x509.CertificateRequest{DNSNames: names}, "",
			[]string{"usages"},
		},
		"usages that were asked for": {Cannot{OtherUsages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth}}, &x509.CertificateRequest{DNSNames: names}, "", nil},
		"a shorter life":             {Cannot{OtherLifetimes: 2 * time.Hour}, &x509.CertificateRequest{DNSNames: names}, "", []string{"duration"}},
		"a longer life":              {Cannot{OtherLifetimes: time.Minute}, &x509.CertificateRequest{DNSNames: names}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			algorithm := c.key
			if algorithm == "" {
				algorithm = "ECDSA-P256"
			}
			got := c.cannot.fields(Request(t, Key(t, algorithm), c.template, nil, time.Hour))
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("cannot do %q, want %q", got, c.want)
			}
		})
	}
}
