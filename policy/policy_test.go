// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

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
		hostNeeded         = "must start with a scheme and a host, such as spiffe://example.com/"
		notCIDR            = `must be a CIDR such as 10.0.0.0/8, an address, or "pod"`
	)
	quotas := func(q ...v1alpha1.Quota) func(*v1alpha1.CertificatePolicySpec) {
		return func(s *v1alpha1.CertificatePolicySpec) { s.Quotas = q }
	}
	lasting := func(d time.Duration) func(*v1alpha1.CertificatePolicySpec) {
		return quotas(v1alpha1.Quota{Per: "Pod", Requests: 1, Period: metav1.Duration{Duration: d}})
	}
	for name, c := range map[string]struct {
		change func(*v1alpha1.CertificatePolicySpec)
		want   []string
	}{
		"mode":                   {func(s *v1alpha1.CertificatePolicySpec) { s.Mode = "audit" }, []string{`spec.mode: Unsupported value: "audit"`, `"Enforce", "Audit"`}},
		"quota: no subject":      {quotas(v1alpha1.Quota{Requests: 1}), []string{`spec.quotas[0].per: Unsupported value: ""`, `"Policy", "Namespace", "ServiceAccount", "Pod"`}},
		"quota: other subject":   {quotas(v1alpha1.Quota{Per: "User", Requests: 1}), []string{`spec.quotas[0].per: Unsupported value: "User"`}},
		"quota: subject twice":   {quotas(v1alpha1.Quota{Per: "Pod", Requests: 1}, v1alpha1.Quota{Per: "Pod", MaxPending: 1}), []string{`spec.quotas[1].per: Duplicate value: "Pod"`}},
		"quota: bounds nothing":  {quotas(v1alpha1.Quota{Per: "Pod"}), []string{`spec.quotas[0].requests: Required value: set requests, maxPending or both`}},
		"quota: burst alone":     {quotas(v1alpha1.Quota{Per: "Pod", MaxPending: 1, Burst: 5}), []string{`spec.quotas[0].burst: Invalid value: 5: goes with requests`}},
		"quota: requests < 0":    {quotas(v1alpha1.Quota{Per: "Pod", Requests: -1}), []string{`spec.quotas[0].requests: Invalid value: -1: must be at least 1`}},
		"quota: burst < 0":       {quotas(v1alpha1.Quota{Per: "Pod", Requests: 1, Burst: -1}), []string{`spec.quotas[0].burst: Invalid value: -1: must be at least 1`}},
		"quota: maxPending < 0":  {quotas(v1alpha1.Quota{Per: "Pod", Requests: 1, MaxPending: -1}), []string{`spec.quotas[0].maxPending: Invalid value: -1: must be at least 1`}},
		"quota: period < 0":      {lasting(-time.Second), []string{`spec.quotas[0].period: Invalid value: "-1s": must be from 1s to 720h0m0s`}},
		"quota: period too long": {lasting(720*time.Hour + 1), []string{`spec.quotas[0].period: Invalid value: "720h0m0.000000001s"`}},
		"quota: period short":    {lasting(time.Second - 1), []string{`spec.quotas[0].period: Invalid value: "999.999999ms"`}},
		"podSelector: operator": {func(s *v1alpha1.CertificatePolicySpec) {
			s.Requesters.PodSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}
		}, []string{"spec.requesters.podSelector: Invalid value", `"Is"`}},
		"DNS name: star in a label": {dns("a*.example.com"), []string{atDNS + `"a*.example.com"`, "* must be a whole label, as in *.example.com"}},
		"URI: no host":              {uri("spiffe:///a"), []string{atURI, hostNeeded}},
		"IP: not an address":        {ip("ten"), []string{atIP + `"ten"`, notCIDR}},
		"IP: empty":                 {ip(""), []string{atIP + `""`, notCIDR}},
		"IP: pod in upper case":     {ip("Pod"), []string{atIP, notCIDR}},
		"IP: too many bits":         {ip("10.0.0.0/33"), []string{atIP, notCIDR}},
		"IP: leading zero":          {ip("10.0.0.01"), []string{atIP, notCIDR}},
		"IP: host bits":             {ip("10.0.0.1/8"), []string{atIP + `"10.0.0.1/8"`, "has bits set behind its prefix: write 10.0.0.0/8"}},
		"IP: mapped":                {ip("::ffff:10.0.0.1"), []string{atIP, "must not be an IPv4 address in IPv6 form"}},
		"IP: mapped range":          {ip("::ffff:0:0/96"), []string{atIP, "must not be an IPv4 address in IPv6 form"}},
		"IP: zone":                  {ip("fe80::1%eth0"), []string{atIP, "must not have a zone"}},
		"IP: placeholder":           {ip("{pod}"), []string{atIP, notCIDR}},
		"email: two @":              {email("a@b@example.com"), []string{atEmail}},
		"CN: unknown placeholder":   {allow(func(a *v1alpha1.Allow) { a.CommonNames = []string{"x", "{cn}"} }), []string{`spec.allow.commonNames[1]: Invalid value: "{cn}"`, "unknown placeholder {cn}"}},
		"subject: brace":            {allow(func(a *v1alpha1.Allow) { a.Subject.Localities = []string{"{"} }), []string{`spec.allow.subject.localities[0]: Invalid value: "{"`, "a brace without its pair"}},
		"usage":                     {allow(func(a *v1alpha1.Allow) { a.Usages = append(a.Usages, "serverAuth") }), []string{`spec.allow.usages[1]: Invalid value: "serverAuth"`, `"server auth"`}},
		"key":                       {allow(func(a *v1alpha1.Allow) { a.Keys = []v1alpha1.Key{{Algorithm: "ecdsa"}} }), []string{`spec.allow.keys[0].algorithm: Unsupported value: "ecdsa"`, `"ECDSA", "Ed25519", "RSA"`}},
		"approval":                  {func(s *v1alpha1.CertificatePolicySpec) { s.Approval = "Auto" }, []string{`spec.approval: Unsupported value: "Auto"`, `"Automatic", "Manual"`}},
		"maxDuration: zero":         {allow(func(a *v1alpha1.Allow) { a.MaxDuration = &metav1.Duration{} }), []string{`spec.allow.maxDuration: Invalid value: "0s"`, "must be more than 0"}},
		"maxDuration: less":         {allow(func(a *v1alpha1.Allow) { a.MaxDuration = &metav1.Duration{Duration: -time.Hour} }), []string{`spec.allow.maxDuration: Invalid value: "-1h0m0s"`, "must be more than 0"}},
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

func TestQuotas(t *testing.T) {
	period := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) {
		s.Quotas = []v1alpha1.Quota{
			{Per: "Policy", Requests: 5},
			{Per: "Namespace", Requests: 5, Period: period(time.Second), Burst: 1},
			{Per: "ServiceAccount", Requests: 1, Period: period(720 * time.Hour), Burst: 9, MaxPending: 1},
			{Per: "Pod", MaxPending: 3},
		}
	})
	want := []v1alpha1.Quota{
		{Per: "Policy", Requests: 5, Period: period(time.Hour), Burst: 5},
		{Per: "Namespace", Requests: 5, Period: period(time.Second), Burst: 1},
		{Per: "ServiceAccount", Requests: 1, Period: period(720 * time.Hour), Burst: 9, MaxPending: 1},
		{Per: "Pod", Period: period(time.Hour), MaxPending: 3},
	}
	other := named(t, "q", func(s *v1alpha1.CertificatePolicySpec) { s.Quotas = want[:1] })
	for name, policies := range map[string][]*Policy{"alone": {p}, "first": {p, other}, "last": {other, p}} {
		t.Run(name, func(t *testing.T) {
			if d := Decide(plainRequest(), plainFacts(), policies); d.Policy != "p" || !reflect.DeepEqual(d.Quotas, want) {
				t.Errorf("got %+v", d)
			}
		})
	}
	if d := Decide(plainRequest(askDNS("a.example.com")), plainFacts(), []*Policy{p}); d.Verdict != Deny || d.Quotas != nil {
		t.Errorf("a denial has quotas: %+v", d)
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

// What the schema says is checked for those who come around it, too.
func TestTooManyExpressionsAreNotCompiled(t *testing.T) {
	raw, err := os.ReadFile("../manifests/crds/certwright.dev_certificatepolicies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		t.Fatal(err)
	}
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties
	for name, fill := range map[string]func(int, string) func(*v1alpha1.CertificatePolicySpec){
		"validations": func(n int, text string) func(*v1alpha1.CertificatePolicySpec) {
			return validate(slices.Repeat([]v1alpha1.Validation{{Expression: text}}, n)...)
		},
		"matchConditions": func(n int, text string) func(*v1alpha1.CertificatePolicySpec) {
			return when(slices.Repeat([]string{text}, n)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if most := spec[name].MaxItems; most == nil || *most != maxExpressions {
				t.Errorf("the schema allows another number than %d", maxExpressions)
			}
			p := &v1alpha1.CertificatePolicy{}
			fill(maxExpressions, "true")(&p.Spec)
			if _, err := Compile(p); err != nil {
				t.Errorf("as many as may be: %v", err)
			}
			fill(1, "wrong (")(&p.Spec)
			if _, err := Compile(p); err == nil || err.Error() != "spec."+name+": Too many: 65: must have at most 64 items" {
				t.Errorf("got %v", err)
			}
		})
	}
}
