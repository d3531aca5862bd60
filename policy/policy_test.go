// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

func TestCompileRefuses(t *testing.T) {
	allow := func(f func(*v1alpha1.Allow)) func(*v1alpha1.CertificatePolicySpec) {
		return func(s *v1alpha1.CertificatePolicySpec) { f(&s.Allow) }
	}
	dns := func(p string) func(*v1alpha1.CertificatePolicySpec) { return allow(allowDNS(p)) }
	ip := func(p string) func(*v1alpha1.CertificatePolicySpec) { return allow(allowIPs(p)) }
	uri := func(p string) func(*v1alpha1.CertificatePolicySpec) {
		return allow(func(a *v1alpha1.Allow) { a.URIs = []string{p} })
	}
	email := func(p string) func(*v1alpha1.CertificatePolicySpec) {
		return allow(func(a *v1alpha1.Allow) { a.EmailAddresses = []string{p} })
	}
	const (
		atDNS, atURI, atIP = "spec.allow.dnsNames[0]: Invalid value: ", "spec.allow.uris[0]: Invalid value: ", "spec.allow.ipAddresses[0]: Invalid value: "
		atEmail            = "spec.allow.emailAddresses[0]: Invalid value: "
		short              = "must be a URI without user, query and fragment"
		hostNeeded         = "must start with a scheme and a host, such as spiffe://example.com/"
		notCIDR            = `must be a CIDR such as 10.0.0.0/8, an address, or "pod"`
		notEmail           = "must be an address such as ops@example.com, or *@example.com"
	)
	for name, c := range map[string]struct {
		change func(*v1alpha1.CertificatePolicySpec)
		want   []string
	}{
		"DNS name: star in a label":       {dns("a*.example.com"), []string{atDNS + `"a*.example.com"`, "* must be a whole label, as in *.example.com"}},
		"DNS name: two stars in a label":  {dns("**.example.com"), []string{atDNS, "* must be a whole label"}},
		"DNS name: star at a placeholder": {dns("*{service}.svc"), []string{atDNS, "* must be a whole label"}},
		"DNS name: empty":                 {dns(""), []string{atDNS + `""`, "empty"}},
		"DNS name: empty label":           {dns("a..example.com"), []string{atDNS, "empty label"}},
		"DNS name: trailing dot":          {dns("a.example.com."), []string{atDNS, "ends with a dot"}},
		"DNS name: upper case":            {dns("A.example.com"), []string{atDNS, "lower-case"}},
		"DNS name: not ASCII":             {dns("b\u00fccher.example"), []string{atDNS, "ASCII"}},
		"DNS name: address":               {dns("10.1.2.3"), []string{atDNS, "IP address"}},
		"DNS name: space":                 {dns("a.example.com "), []string{atDNS, "character"}},
		"DNS name: URI":                   {dns("https://a.example.com"), []string{atDNS, "character"}},
		"DNS name: unknown placeholder":   {dns("{svc}.svc"), []string{atDNS + `"{svc}.svc"`, "unknown placeholder {svc}", "{service}"}},
		"DNS name: bare hostname":         {dns("{hostname}.svc"), []string{atDNS, "{hostname} without {service}"}},
		"DNS name: placeholders that run": {dns("{service}-{namespace}.example.com"), []string{atDNS, "can be read in two ways"}},
		"URI: no scheme":                  {uri("example.com/a"), []string{atURI + `"example.com/a"`, hostNeeded}},
		"URI: empty scheme":               {uri("://example.com/a"), []string{atURI, hostNeeded}},
		"URI: no host":                    {uri("spiffe:///a"), []string{atURI, hostNeeded}},
		"URI: opaque":                     {uri("urn:example"), []string{atURI, hostNeeded}},
		"URI: star as host":               {uri("spiffe://*/a"), []string{atURI, "* must be a path segment; scheme and host are compared whole"}},
		"URI: star in host":               {uri("https://*.example.com/a"), []string{atURI, "* must be a path segment"}},
		"URI: star in scheme":             {uri("*://example.com/a"), []string{atURI, "* must be a path segment"}},
		"URI: star in segment":            {uri("spiffe://td/a*"), []string{atURI, "* must be a whole path segment, as in spiffe://example.com/*"}},
		"URI: two stars":                  {uri("spiffe://td/**"), []string{atURI, "* must be a whole path segment"}},
		"URI: user":                       {uri("https://me@example.com/"), []string{atURI, short}},
		"URI: query":                      {uri("https://example.com/?a=b"), []string{atURI, short}},
		"URI: empty query":                {uri("https://example.com/?"), []string{atURI}},
		"URI: fragment":                   {uri("https://example.com/#a"), []string{atURI, short}},
		"URI: empty fragment":             {uri("https://example.com/#"), []string{atURI, short}},
		"URI: space":                      {uri("https://example.com/a b"), []string{atURI, short}},
		"URI: does not parse":             {uri("https://exa mple.com/a"), []string{atURI, short}},
		"URI: dot segment":                {uri("spiffe://td/a/../b"), []string{atURI, "empty segment, . or .."}},
		"URI: empty segment":              {uri("https://example.com/a//b"), []string{atURI, "empty segment, . or .."}},
		"URI: trailing slash of an ID":    {uri("spiffe://td/a/"), []string{atURI, "slash at its end"}},
		"URI: host in upper case":         {uri("https://Example.com/"), []string{atURI, "lower-case"}},
		"URI: encoded slash":              {uri("https://example.com/a%2Fb"), []string{atURI, "percent-encoding"}},
		"IP: not an address":              {ip("ten"), []string{atIP + `"ten"`, notCIDR}},
		"IP: empty":                       {ip(""), []string{atIP + `""`, notCIDR}},
		"IP: pod in upper case":           {ip("Pod"), []string{atIP, notCIDR}},
		"IP: too many bits":               {ip("10.0.0.0/33"), []string{atIP, notCIDR}},
		"IP: leading zero":                {ip("10.0.0.01"), []string{atIP, notCIDR}},
		"IP: host bits":                   {ip("10.0.0.1/8"), []string{atIP + `"10.0.0.1/8"`, "has bits set behind its prefix: write 10.0.0.0/8"}},
		"IP: mapped":                      {ip("::ffff:10.0.0.1"), []string{atIP, "must not be an IPv4 address in IPv6 form"}},
		"IP: mapped range":                {ip("::ffff:0:0/96"), []string{atIP, "must not be an IPv4 address in IPv6 form"}},
		"IP: zone":                        {ip("fe80::1%eth0"), []string{atIP, "must not have a zone"}},
		"IP: placeholder":                 {ip("{pod}"), []string{atIP, notCIDR}},
		"email: no @":                     {email("example.com"), []string{atEmail + `"example.com"`, notEmail}},
		"email: no mailbox":               {email("@example.com"), []string{atEmail, notEmail}},
		"email: star in mailbox":          {email("o*@example.com"), []string{atEmail, notEmail}},
		"email: star in domain":           {email("ops@*.example.com"), []string{atEmail, "wildcard"}},
		"email: star as domain":           {email("*@*"), []string{atEmail}},
		"email: no domain":                {email("ops@"), []string{atEmail}},
		"email: two @":                    {email("a@b@example.com"), []string{atEmail}},
		"email: space in mailbox":         {email("a b@example.com"), []string{atEmail, "needs quoting"}},
		"CN: unknown placeholder":         {allow(func(a *v1alpha1.Allow) { a.CommonNames = []string{"x", "{cn}"} }), []string{`spec.allow.commonNames[1]: Invalid value: "{cn}"`, "unknown placeholder {cn}"}},
		"subject: brace":                  {allow(func(a *v1alpha1.Allow) { a.Subject.Localities = []string{"{"} }), []string{`spec.allow.subject.localities[0]: Invalid value: "{"`, "a brace without its pair"}},
		"usage":                           {allow(func(a *v1alpha1.Allow) { a.Usages = append(a.Usages, "serverAuth") }), []string{`spec.allow.usages[1]: Invalid value: "serverAuth"`, `"server auth"`}},
		"key":                             {allow(func(a *v1alpha1.Allow) { a.Keys = []v1alpha1.Key{{Algorithm: "ecdsa"}} }), []string{`spec.allow.keys[0].algorithm: Unsupported value: "ecdsa"`, `"ECDSA", "Ed25519", "RSA"`}},
		"approval":                        {func(s *v1alpha1.CertificatePolicySpec) { s.Approval = "Auto" }, []string{`spec.approval: Unsupported value: "Auto"`, `"Automatic", "Manual"`}},
		"maxDuration: zero":               {allow(func(a *v1alpha1.Allow) { a.MaxDuration = &metav1.Duration{} }), []string{`spec.allow.maxDuration: Invalid value: "0s"`, "must be more than 0"}},
		"maxDuration: less":               {allow(func(a *v1alpha1.Allow) { a.MaxDuration = &metav1.Duration{Duration: -time.Hour} }), []string{`spec.allow.maxDuration: Invalid value: "-1h0m0s"`, "must be more than 0"}},
		"namespaceSelector: operator": {func(s *v1alpha1.CertificatePolicySpec) {
			s.Requesters.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}
		}, []string{"spec.requesters.namespaceSelector: Invalid value", `"Is"`}},
		"namespaceSelector: label's value": {func(s *v1alpha1.CertificatePolicySpec) {
			s.Requesters.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b c"}}
		}, []string{"spec.requesters.namespaceSelector: Invalid value", "b c"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(plainPolicy(c.change))
			if err == nil || p != nil {
				t.Fatalf("compiled: %v, %v", p, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want one with %q", err, want)
				}
			}
		})
	}
}

func TestCompileNamesAllThatIsWrong(t *testing.T) {
	_, err := Compile(plainPolicy(func(s *v1alpha1.CertificatePolicySpec) {
		s.Approval = "x"
		s.Requesters.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b c"}}
		s.Allow = v1alpha1.Allow{
			DNSNames: []string{"good.example.com", "a*b.com", "{x}"}, URIs: []string{"x", "spiffe://td/a", "y"}, IPAddresses: []string{"x", "pod", "y"},
			EmailAddresses: []string{"x"}, CommonNames: []string{"{"}, Usages: append(s.Allow.Usages, "x"), Keys: []v1alpha1.Key{{}},
			MaxDuration: &metav1.Duration{Duration: -1},
			Subject: v1alpha1.Subject{
				Organizations: []string{"{"}, OrganizationalUnits: []string{"{"}, Countries: []string{"{"}, Provinces: []string{"{"},
				Localities: []string{"{"}, StreetAddresses: []string{"{"}, PostalCodes: []string{"{"}, SerialNumbers: []string{"ok", "{"},
			},
		}
	}))
	if err == nil {
		t.Fatal("compiled")
	}
	for _, path := range []string{
		"approval", "requesters.namespaceSelector", "allow.dnsNames[1]", "allow.dnsNames[2]", "allow.uris[0]", "allow.uris[2]", "allow.ipAddresses[0]",
		"allow.ipAddresses[2]", "allow.emailAddresses[0]", "allow.commonNames[0]", "allow.usages[1]", "allow.keys[0].algorithm", "allow.maxDuration",
		"allow.subject.organizations[0]", "allow.subject.organizationalUnits[0]", "allow.subject.countries[0]", "allow.subject.provinces[0]",
		"allow.subject.localities[0]", "allow.subject.streetAddresses[0]", "allow.subject.postalCodes[0]", "allow.subject.serialNumbers[1]",
	} {
		if !strings.Contains(err.Error(), "spec."+path+": ") {
			t.Errorf("nothing about %s in %v", path, err)
		}
	}
	if n := strings.Count(err.Error(), "spec."); n != 21 {
		t.Errorf("%d errors, want 21: %v", n, err)
	}
}

func TestCompileAccepts(t *testing.T) {
	p, err := Compile(plainPolicy(func(s *v1alpha1.CertificatePolicySpec) {
		s.Approval = v1alpha1.ApprovalManual
		s.Allow = v1alpha1.Allow{
			DNSNames: []string{"*.example.com", "a.*.example.com", "*", "{hostname}.{service}.{namespace}.svc.{clusterDomain}", "xn--bcher-kva.example", "{namespace}-web.example.com"},
			URIs: []string{
				"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}", "spiffe://td", "spiffe://td/*/b", "https://[2001:db8::1]:8443/a",
				"https://{service}.{namespace}.svc:8443/", "https://example.com", "https://example.com/b%C3%BCcher",
			},
			IPAddresses:    []string{"pod", "10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "0.0.0.0/0", "::/0", "fe80::1"},
			EmailAddresses: []string{"*@example.com", "ops@example.com", "{serviceAccount}@{namespace}.example.com"},
			CommonNames:    []string{"*", "system:serviceaccount:{namespace}:{serviceAccount}", "a*b*c"},
			Usages:         append(s.Allow.Usages, "any", "cert sign"),
			Keys:           s.Allow.Keys,
			MaxDuration:    &metav1.Duration{Duration: 1},
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "plain" || !p.SpeaksOf(signerName) || p.SpeaksOf("example.com/other") {
		t.Errorf("name or signerNames are wrong: %+v", p)
	}
}

func TestCompiledPolicyNeverChanges(t *testing.T) {
	source := plainPolicy(func(s *v1alpha1.CertificatePolicySpec) { s.Requesters.Users = []string{"jane"} })
	p := mustCompile(t, source)
	source.Spec.SignerNames[0] = "example.com/other"
	source.Spec.Requesters.ServiceAccounts[0] = "nobody"
	source.Spec.Requesters.Users[0] = "eve"
	source.Spec.Allow.Usages[0] = "any"
	source.Spec.Allow.Keys[0].Algorithm = "none"
	for _, requester := range []csr.Requester{serviceAccount("shop", "web"), {Username: "jane"}} {
		req := plainRequest(func(r *csr.Request) { r.Requester = requester })
		if d := Decide(req, plainFacts(), []*Policy{p}); d.Verdict != Permit {
			t.Errorf("changed for %s: %v", requester.Username, d.Message())
		}
	}
}
