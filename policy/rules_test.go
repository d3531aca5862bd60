// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/x509/pkix"
	"net/netip"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// ruleCase is a request, what one policy allows, and the violations in words; none is a permit.
type ruleCase struct {
	allow func(*v1alpha1.Allow)
	ask   func(*csr.Request)
	facts func(*Facts)
	want  string
}

func (c ruleCase) run(t *testing.T) {
	p := mustCompile(t, plainPolicy(func(s *v1alpha1.CertificatePolicySpec) {
		if c.allow != nil {
			c.allow(&s.Allow)
		}
	}))
	req, facts := plainRequest(), plainFacts()
	if c.ask != nil {
		c.ask(&req)
	}
	if c.facts != nil {
		c.facts(&facts)
	}
	if got := refusals(t, Decide(req, facts, []*Policy{p})); got != c.want {
		t.Errorf("got  %s\nwant %s", got, c.want)
	}
}

func askDNS(names ...string) func(*csr.Request) {
	return func(r *csr.Request) { r.DNSNames = names }
}

func allowDNS(patterns ...string) func(*v1alpha1.Allow) {
	return func(a *v1alpha1.Allow) { a.DNSNames = patterns }
}

func askIPs(addrs ...string) func(*csr.Request) {
	return func(r *csr.Request) {
		for _, a := range addrs {
			r.IPAddresses = append(r.IPAddresses, netip.MustParseAddr(a))
		}
	}
}

func allowIPs(texts ...string) func(*v1alpha1.Allow) {
	return func(a *v1alpha1.Allow) { a.IPAddresses = texts }
}

func TestNameRules(t *testing.T) {
	wild := func(patterns ...string) func(*v1alpha1.Allow) {
		return func(a *v1alpha1.Allow) { a.DNSNames, a.Wildcards = patterns, true }
	}
	uris := func(texts ...string) func(*csr.Request) {
		return func(r *csr.Request) {
			for _, text := range texts {
				r.URIs = append(r.URIs, mustURL(t, text))
			}
		}
	}
	for name, c := range map[string]ruleCase{
		"no name at all":         {},
		"DNS names not allowed":  {nil, askDNS("a.example.com"), nil, `dnsNames: "a.example.com" not allowed (the policy allows none)`},
		"DNS names of patterns":  {allowDNS("a.example.com", "*.b.example.com"), askDNS("x.b.example.com", "a.example.com"), nil, ""},
		"only the bad DNS names": {allowDNS("a.example.com", "b.example.com"), askDNS("c.example.com", "a.example.com", "d.example.com"), nil, `dnsNames: "c.example.com", "d.example.com" not allowed (allowed: "a.example.com", "b.example.com")`},
		"wildcard without leave": {allowDNS("*.example.com"), askDNS("*.example.com"), nil, `dnsNames: "*.example.com" not allowed (allowed: "*.example.com")`},
		"wildcard with leave":    {wild("*.example.com"), askDNS("*.example.com"), nil, ""},
		"wildcard elsewhere":     {wild("*.example.com", "x.sub.example.com"), askDNS("*.sub.example.com"), nil, `dnsNames: "*.sub.example.com" not allowed (allowed: "*.example.com", "x.sub.example.com")`},
		"URIs not allowed":       {nil, uris("spiffe://td.example/x"), nil, `uris: "spiffe://td.example/x" not allowed (the policy allows none)`},
		"URI":                    {func(a *v1alpha1.Allow) { a.URIs = []string{"spiffe://td.example/*"} }, uris("spiffe://td.example/x", "spiffe://td.example/y"), nil, ""},
		"only the bad URI":       {func(a *v1alpha1.Allow) { a.URIs = []string{"spiffe://td.example/x"} }, uris("spiffe://td.example/x", "spiffe://td.example/y"), nil, `uris: "spiffe://td.example/y" not allowed (allowed: "spiffe://td.example/x")`},
		"email not allowed":      {nil, func(r *csr.Request) { r.EmailAddresses = []string{"a@example.com"} }, nil, `emailAddresses: "a@example.com" not allowed (the policy allows none)`},
		"email":                  {func(a *v1alpha1.Allow) { a.EmailAddresses = []string{"*@example.com"} }, func(r *csr.Request) { r.EmailAddresses = []string{"a@example.com"} }, nil, ""},
		"other email":            {func(a *v1alpha1.Allow) { a.EmailAddresses = []string{"a@example.com"} }, func(r *csr.Request) { r.EmailAddresses = []string{"b@example.com"} }, nil, `emailAddresses: "b@example.com" not allowed (allowed: "a@example.com")`},
		"CN not allowed":         {nil, func(r *csr.Request) { r.Subject.CommonName = "web" }, nil, `commonNames: "web" not allowed (the policy allows none)`},
		"CN glob":                {func(a *v1alpha1.Allow) { a.CommonNames = []string{"w*"} }, func(r *csr.Request) { r.Subject.CommonName = "web" }, nil, ""},
		"CN glob does not match": {func(a *v1alpha1.Allow) { a.CommonNames = []string{"v*"} }, func(r *csr.Request) { r.Subject.CommonName = "web" }, nil, `commonNames: "web" not allowed (allowed: "v*")`},
		"CN is not a DNS name":   {allowDNS("web.example.com"), func(r *csr.Request) { r.Subject.CommonName = "web.example.com" }, nil, `commonNames: "web.example.com" not allowed (the policy allows none)`},
		"DNS name is not a CN":   {func(a *v1alpha1.Allow) { a.CommonNames = []string{"*"} }, askDNS("web.example.com"), nil, `dnsNames: "web.example.com" not allowed (the policy allows none)`},
		"nothing leaks into a message": {
			nil, func(r *csr.Request) { r.Subject.CommonName = "a\nb\x1b[31m\"" }, nil,
			`commonNames: "a\nb\x1b[31m\"" not allowed (the policy allows none)`,
		},
	} {
		t.Run(name, c.run)
	}
}

func TestIPAddressRules(t *testing.T) {
	noPod := func(f *Facts) { f.Pod = nil }
	noIPs := func(f *Facts) { f.Pod.IPs = nil }
	const ownOnly = " not allowed (allowed: the pod's own [10.1.2.3 fd00::7])"
	const noOwn = " not allowed (allowed: the pod's own, but the requester has no pod with an address of its own)"
	for name, c := range map[string]ruleCase{
		"not allowed":               {nil, askIPs("10.1.2.3"), nil, "ipAddresses: 10.1.2.3 not allowed (the policy allows none)"},
		"own":                       {allowIPs("pod"), askIPs("10.1.2.3"), nil, ""},
		"own in v6":                 {allowIPs("pod"), askIPs("fd00::7", "10.1.2.3"), nil, ""},
		"not own":                   {allowIPs("pod"), askIPs("10.1.2.4", "10.1.2.3"), nil, "ipAddresses: 10.1.2.4" + ownOnly},
		"own with zone":             {allowIPs("pod"), askIPs("fd00::7%eth0"), nil, "ipAddresses: fd00::7%eth0" + ownOnly},
		"own in mapped form":        {allowIPs("pod"), askIPs("::ffff:10.1.2.3"), nil, "ipAddresses: ::ffff:10.1.2.3" + ownOnly},
		"own without a pod":         {allowIPs("pod"), askIPs("10.1.2.3"), noPod, "ipAddresses: 10.1.2.3" + noOwn},
		"own in the node's network": {allowIPs("pod"), askIPs("10.1.2.3"), noIPs, "ipAddresses: 10.1.2.3" + noOwn},
		"own without leave":         {allowIPs("192.0.2.0/24"), askIPs("10.1.2.3"), nil, "ipAddresses: 10.1.2.3 not allowed (allowed: 192.0.2.0/24)"},
		"first of a range":          {allowIPs("10.0.0.0/8"), askIPs("10.0.0.0"), nil, ""},
		"last of a range":           {allowIPs("10.0.0.0/8"), askIPs("10.255.255.255"), nil, ""},
		"after a range":             {allowIPs("10.0.0.0/8"), askIPs("11.0.0.0"), nil, "ipAddresses: 11.0.0.0 not allowed (allowed: 10.0.0.0/8)"},
		"single address":            {allowIPs("192.0.2.1"), askIPs("192.0.2.1"), nil, ""},
		"next to a single address":  {allowIPs("192.0.2.1"), askIPs("192.0.2.0"), nil, "ipAddresses: 192.0.2.0 not allowed (allowed: 192.0.2.1/32)"},
		"v6 range":                  {allowIPs("2001:db8::/32"), askIPs("2001:db8:ffff::1"), nil, ""},
		"outside of a v6 range":     {allowIPs("2001:db8::/32"), askIPs("2001:db9::"), nil, "ipAddresses: 2001:db9:: not allowed (allowed: 2001:db8::/32)"},
		"v4 in all of v6":           {allowIPs("::/0"), askIPs("10.1.2.3"), nil, "ipAddresses: 10.1.2.3 not allowed (allowed: ::/0)"},
		"v6 in all of v4":           {allowIPs("0.0.0.0/0"), askIPs("2001:db8::1"), nil, "ipAddresses: 2001:db8::1 not allowed (allowed: 0.0.0.0/0)"},
		"mapped v4 in all of v4":    {allowIPs("0.0.0.0/0"), askIPs("::ffff:10.1.2.3"), nil, "ipAddresses: ::ffff:10.1.2.3 not allowed (allowed: 0.0.0.0/0)"},
		"own or in a range":         {allowIPs("pod", "192.0.2.0/24"), askIPs("10.1.2.3", "192.0.2.9", "10.9.9.9"), nil, "ipAddresses: 10.9.9.9 not allowed (allowed: the pod's own [10.1.2.3 fd00::7], 192.0.2.0/24)"},
	} {
		t.Run(name, c.run)
	}
}

func TestUsageKeyAndCARules(t *testing.T) {
	usages := func(u ...certificatesv1.KeyUsage) func(*csr.Request) {
		return func(r *csr.Request) { r.Usages = u }
	}
	key := func(algorithm string, size int) func(*csr.Request) {
		return func(r *csr.Request) { r.Key = csr.Key{Algorithm: algorithm, Size: size} }
	}
	keys := func(k ...v1alpha1.Key) func(*v1alpha1.Allow) { return func(a *v1alpha1.Allow) { a.Keys = k } }
	for name, c := range map[string]ruleCase{
		"usage":               {nil, usages("server auth"), nil, ""},
		"other usage":         {nil, usages("server auth", "client auth"), nil, `usages: "client auth" not allowed (allowed: "server auth")`},
		"usage any":           {nil, usages("any"), nil, `usages: "any" not allowed (allowed: "server auth")`},
		"usage in other case": {nil, usages("Server Auth"), nil, `usages: "Server Auth" not allowed (allowed: "server auth")`},
		"no usages allowed":   {func(a *v1alpha1.Allow) { a.Usages = nil }, usages("server auth"), nil, `usages: "server auth" not allowed (the policy allows none)`},
		"key":                 {keys(v1alpha1.Key{Algorithm: v1alpha1.ECDSA}), key("ECDSA", 256), nil, ""},
		"no keys allowed":     {keys(), key("ECDSA", 256), nil, "keys: ECDSA of 256 bits not allowed (the policy allows none)"},
		"other algorithm":     {keys(v1alpha1.Key{Algorithm: v1alpha1.Ed25519}), key("ECDSA", 256), nil, "keys: ECDSA of 256 bits not allowed (allowed: Ed25519)"},
		"large enough":        {keys(v1alpha1.Key{Algorithm: v1alpha1.RSA, MinSize: 3072}), key("RSA", 3072), nil, ""},
		"larger":              {keys(v1alpha1.Key{Algorithm: v1alpha1.RSA, MinSize: 3072}), key("RSA", 4096), nil, ""},
		"too small": {
			keys(v1alpha1.Key{Algorithm: v1alpha1.Ed25519}, v1alpha1.Key{Algorithm: v1alpha1.RSA, MinSize: 3072}), key("RSA", 3071), nil,
			"keys: RSA of 3071 bits not allowed (allowed: Ed25519, RSA of at least 3072 bits)",
		},
		"size of another kind": {
			keys(v1alpha1.Key{Algorithm: v1alpha1.ECDSA, MinSize: 384}, v1alpha1.Key{Algorithm: v1alpha1.Ed25519}), key("ECDSA", 256), nil,
			"keys: ECDSA of 256 bits not allowed (allowed: ECDSA of at least 384 bits, Ed25519)",
		},
		"CA":               {nil, func(r *csr.Request) { r.IsCA = true }, nil, "isCA: true not allowed (allowed: false)"},
		"CA with leave":    {func(a *v1alpha1.Allow) { a.IsCA = true }, func(r *csr.Request) { r.IsCA = true }, nil, ""},
		"no CA with leave": {func(a *v1alpha1.Allow) { a.IsCA = true }, nil, nil, ""},
		"pod does not count": {
			nil, nil, func(f *Facts) { f.Pod, f.PodProblem = nil, "pod shop/web-0 is gone" },
			`requester: "system:serviceaccount:shop:web" not allowed (pod shop/web-0 is gone)`,
		},
	} {
		t.Run(name, c.run)
	}
}

func TestSubjectRules(t *testing.T) {
	for name, c := range map[string]struct {
		ask   pkix.Name
		allow func(*v1alpha1.Subject) *[]string
	}{
		"organizations":       {pkix.Name{Organization: []string{"one", "two"}}, func(s *v1alpha1.Subject) *[]string { return &s.Organizations }},
		"organizationalUnits": {pkix.Name{OrganizationalUnit: []string{"one", "two"}}, func(s *v1alpha1.Subject) *[]string { return &s.OrganizationalUnits }},
		"countries":           {pkix.Name{Country: []string{"one", "two"}}, func(s *v1alpha1.Subject) *[]string { return &s.Countries }},
		"provinces":           {pkix.Name{Province: []string{"one", "two"}}, func(s *v1alpha1.Subject) *[]string { return &s.Provinces }},
		"localities":          {pkix.Name{Locality: []string{"one", "two"}}, func(s *v1alpha1.Subject) *[]string { return &s.Localities }},
		"streetAddresses":     {pkix.Name{StreetAddress: []string{"one", "two"}}, func(s *v1alpha1.Subject) *[]string { return &s.StreetAddresses }},
		"postalCodes":         {pkix.Name{PostalCode: []string{"one", "two"}}, func(s *v1alpha1.Subject) *[]string { return &s.PostalCodes }},
		"serialNumbers":       {pkix.Name{SerialNumber: "two"}, func(s *v1alpha1.Subject) *[]string { return &s.SerialNumbers }},
	} {
		t.Run(name, func(t *testing.T) {
			ask := func(r *csr.Request) { r.Subject = c.ask }
			with := func(patterns ...string) func(*v1alpha1.Allow) {
				return func(a *v1alpha1.Allow) { *c.allow(&a.Subject) = patterns }
			}
			refused := `"one", "two"`
			if name == "serialNumbers" {
				refused = `"two"`
			}
			ruleCase{nil, ask, nil, "subject." + name + ": " + refused + " not allowed (the policy allows none)"}.run(t)
			ruleCase{with("one"), ask, nil, "subject." + name + `: "two" not allowed (allowed: "one")`}.run(t)
			ruleCase{with("one", "t*"), ask, nil, ""}.run(t)
		})
	}
	t.Run("empty values claim nothing", ruleCase{nil, func(r *csr.Request) { r.Subject.Organization = []string{""} }, nil, ""}.run)
	t.Run("placeholder", ruleCase{
		func(a *v1alpha1.Allow) { a.Subject.Organizations = []string{"team-{namespace}"} },
		func(r *csr.Request) { r.Subject.Organization = []string{"team-shop", "team-bank"} }, nil,
		`subject.organizations: "team-bank" not allowed (allowed: "team-shop")`,
	}.run)
}
