// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"crypto/x509"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/internal/example"
)

func asking(dnsNames ...string) func(*x509.CertificateRequest) {
	return func(r *x509.CertificateRequest) {
		*r = x509.CertificateRequest{DNSNames: dnsNames}
	}
}

func askingURI(t *testing.T, uri string) func(*x509.CertificateRequest) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *x509.CertificateRequest) { *r = x509.CertificateRequest{URIs: []*url.URL{u}} }
}

func TestLimitsBoundNames(t *testing.T) {
	dns := v1alpha1.Limits{PermittedDNSDomains: []string{"example.com", "svc"}}
	uris := v1alpha1.Limits{PermittedURIDomains: []string{"example.com", "cluster.local"}}
	emails := v1alpha1.Limits{PermittedEmailDomains: []string{"example.com"}}
	ips := v1alpha1.Limits{PermittedIPRanges: []string{"10.0.0.0/8", "fd00::/8"}}
	name := func(cn string) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) { *r = x509.CertificateRequest{}; r.Subject.CommonName = cn }
	}
	ip := func(text string) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) {
			*r = x509.CertificateRequest{IPAddresses: []net.IP{net.ParseIP(text)}}
		}
	}
	email := func(text string) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) { *r = x509.CertificateRequest{EmailAddresses: []string{text}} }
	}
	for test, c := range map[string]struct {
		limits v1alpha1.Limits
		ask    func(*x509.CertificateRequest)
		want   string // of what is exceeded; empty if nothing is
	}{
		"no bounds":                      {v1alpha1.Limits{}, nil, ""},
		"a DNS name in the domain":       {dns, asking("web.example.com"), ""},
		"the domain itself":              {dns, asking("example.com"), ""},
		"deep below the domain":          {dns, asking("a.b.c.svc"), ""},
		"a DNS name outside":             {dns, asking("web.example.org"), "dnsNames: web.example.org"},
		"a domain that only ends alike":  {dns, asking("notexample.com"), "dnsNames: notexample.com"},
		"the domain as a prefix":         {dns, asking("example.com.evil.org"), "dnsNames"},
		"a wildcard of the domain":       {dns, asking("*.example.com"), ""},
		"a wildcard below the domain":    {dns, asking("*.a.example.com"), ""},
		"a wildcard above the domain":    {v1alpha1.Limits{PermittedDNSDomains: []string{"a.example.com"}}, asking("*.example.com"), "dnsNames: *.example.com"},
		"one of two names outside":       {dns, asking("web.example.com", "bank.org"), "dnsNames: bank.org"},
		"a common name in the domain":    {dns, name("web.example.com"), ""},
		"a common name outside":          {dns, name("BANK.org"), "commonName: bank.org"},
		"a wildcard common name outside": {dns, name("*.bank.org"), "commonName: *.bank.org"},
		"a common name of no host":       {dns, name("system:node:a.b"), ""},
		"a common name of one word":      {dns, name("alice"), ""},
		"a SPIFFE trust domain":          {uris, askingURI(t, "spiffe://cluster.local/ns/a/sa/b"), ""},
		"a trust domain below":           {uris, askingURI(t, "spiffe://evil.cluster.local/ns/a/sa/b"), "uris: spiffe://evil"},
		"a host below":                   {uris, askingURI(t, "https://a.example.com/x"), ""},
		"a host with a port":             {uris, askingURI(t, "https://a.example.com:8443/x"), ""},
		"a host outside":                 {uris, askingURI(t, "https://example.com.evil.org/x"), "uris"},
		"an address for a host":          {uris, askingURI(t, "https://10.0.0.1/x"), "uris"},
		"an email address":               {emails, email("ops@example.com"), ""},
		"an email address outside":       {emails, email("ops@evil.org"), "emailAddresses: ops@evil.org"},
		"an email address below":         {emails, email("ops@sub.example.com"), "emailAddresses"},
		"an IPv4 address":                {ips, ip("10.255.0.1"), ""},
		"an IPv4 address outside":        {ips, ip("11.0.0.1"), "ipAddresses: 11.0.0.1"},
		"an IPv6 address":                {ips, ip("fd00::7"), ""},
		"an IPv6 address outside":        {ips, ip("2001:db8::7"), "ipAddresses: 2001:db8::7"},
	} {
		t.Run(test, func(t *testing.T) {
			c.limits.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}
			compiled, errs := Compile(c.limits, nil)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			_, exceeded := compiled.Apply(example.Request(t, nil, c.ask), 0)
			if (c.want == "") != (exceeded == "") || !strings.Contains(exceeded, c.want) {
				t.Errorf("exceeded %q, want %q", exceeded, c.want)
			}
		})
	}
}

func TestLimitsBoundUsages(t *testing.T) {
	const (
		signature = certificatesv1.UsageDigitalSignature
		client    = certificatesv1.UsageClientAuth
		server    = certificatesv1.UsageServerAuth
		certSign  = certificatesv1.UsageCertSign
	)
	usages := func(all ...certificatesv1.KeyUsage) []certificatesv1.KeyUsage { return all }
	for name, c := range map[string]struct {
		limits v1alpha1.Limits
		usages []certificatesv1.KeyUsage
		isCA   bool
		want   string
	}{
		"all allowed":                     {v1alpha1.Limits{Usages: usages(signature, client)}, usages(client, signature), false, ""},
		"one not allowed":                 {v1alpha1.Limits{Usages: usages(signature, client)}, usages(signature, server), false, "usages: server auth"},
		"no usages in the limits":         {v1alpha1.Limits{}, usages(client), false, "usages: client auth"},
		"fewer usages that permit more":   {v1alpha1.Limits{Usages: usages(signature, client)}, usages(signature), false, "good for every purpose"},
		"the same where all are allowed":  {v1alpha1.Limits{Usages: usages(signature, certificatesv1.UsageAny)}, usages(signature), false, ""},
		"a CA without leave":              {v1alpha1.Limits{Usages: usages(certSign)}, usages(certSign), true, "isCA: true (allowed: false)"},
		"a CA with leave":                 {v1alpha1.Limits{Usages: usages(certSign), IsCA: true}, usages(certSign), true, ""},
		"a CA with leave, not of signing": {v1alpha1.Limits{Usages: usages(client), IsCA: true}, usages(certSign), true, "usages: cert sign"},
	} {
		t.Run(name, func(t *testing.T) {
			compiled, errs := Compile(c.limits, nil)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			req := example.Request(t, c.usages, asking("web.example.com"))
			req.IsCA = c.isCA
			_, exceeded := compiled.Apply(req, 0)
			if (c.want == "") != (exceeded == "") || !strings.Contains(exceeded, c.want) {
				t.Errorf("exceeded %q, want %q", exceeded, c.want)
			}
		})
	}
}

func TestEverythingExceededIsNamedAtOnce(t *testing.T) {
	compiled, errs := Compile(v1alpha1.Limits{
		PermittedDNSDomains: []string{"example.org"}, PermittedURIDomains: []string{"example.org"},
		PermittedEmailDomains: []string{"example.org"}, PermittedIPRanges: []string{"192.168.0.0/16"},
	}, nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	req := example.Request(t, nil, nil)
	req.IsCA = true
	_, exceeded := compiled.Apply(req, 0)
	for _, field := range []string{"isCA", "usages", "dnsNames", "uris", "emailAddresses", "ipAddresses"} {
		if !strings.Contains(exceeded, field+": ") {
			t.Errorf("%s is missing in %q", field, exceeded)
		}
	}
}

func TestGrantedDuration(t *testing.T) {
	for name, c := range map[string]struct{ limit, policy, asked, want time.Duration }{
		"as asked":                       {24 * time.Hour, 0, time.Hour, time.Hour},
		"none asked":                     {24 * time.Hour, 0, 0, 24 * time.Hour},
		"none asked, policy is shorter":  {24 * time.Hour, 2 * time.Hour, 0, 2 * time.Hour},
		"policy is longer":               {24 * time.Hour, 48 * time.Hour, 0, 24 * time.Hour},
		"more than the limit":            {24 * time.Hour, 0, 240 * time.Hour, 24 * time.Hour},
		"more than the policy":           {24 * time.Hour, 2 * time.Hour, 3 * time.Hour, 2 * time.Hour},
		"less than both":                 {24 * time.Hour, 2 * time.Hour, time.Hour, time.Hour},
		"no limit is the default":        {0, 0, 240 * time.Hour, 24 * time.Hour},
		"no limit, none asked, a policy": {0, 48 * time.Hour, 0, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			compiled, errs := Compile(v1alpha1.Limits{MaxDuration: metav1.Duration{Duration: c.limit}}, nil)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			req := example.Request(t, nil, nil).WithDuration(c.asked)
			if granted, _ := compiled.Apply(req, c.policy); granted.Duration != c.want {
				t.Errorf("granted %s, want %s", granted.Duration, c.want)
			}
			if req.Duration != c.asked {
				t.Error("the request itself was changed")
			}
		})
	}
}

func TestInvalidLimitsAreAllNamed(t *testing.T) {
	bad := v1alpha1.Limits{
		MaxDuration:           metav1.Duration{Duration: -time.Hour},
		Usages:                []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, "spying"},
		PermittedDNSDomains:   []string{"Example.com", "*.example.com", ".example.com"},
		PermittedURIDomains:   []string{"https://example.com"},
		PermittedEmailDomains: []string{"@example.com"},
		PermittedIPRanges:     []string{"10.0.0.0/8", "10.0.0.0"},
	}
	_, errs := Compile(bad, field.NewPath("limits"))
	var got []string
	for _, err := range errs {
		got = append(got, err.Error())
	}
	want := []string{
		`limits.maxDuration: Invalid value: "-1h0m0s": must be more than 0`, `limits.usages[1]: Invalid value: "spying"`,
		`limits.permittedDNSDomains[0]: Invalid value: "Example.com"`,
		`limits.permittedDNSDomains[1]: Invalid value: "*.example.com": must not have a wildcard: write example.com`,
		`limits.permittedDNSDomains[2]: Invalid value: ".example.com"`, `limits.permittedURIDomains[0]: Invalid value: "https://example.com"`,
		`limits.permittedEmailDomains[0]: Invalid value: "@example.com"`, `limits.permittedIPRanges[1]: Invalid value: "10.0.0.0": must be a CIDR`,
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
