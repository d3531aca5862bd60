// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/x509/pkix"
	"reflect"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// checksAre compares checks, and names the first that differs.
func checksAre(t *testing.T, got, want []Check) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("no check %+v", want[i])
		case i >= len(want):
			t.Errorf("a check too many: %+v", got[i])
		case !reflect.DeepEqual(got[i], want[i]):
			t.Errorf("got  %+v\nwant %+v", got[i], want[i])
		}
	}
}

func TestExplainSelection(t *testing.T) {
	const requesters = "spec.requesters."
	yes := []Check{{"spec.signerNames", true, []string{`"example.com/internal"`}, `wants one of "example.com/internal"`, []string{"spec.signerNames[0]"}}}
	web := v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"w*", "x", "web"}}
	webAccount := Check{requesters + "serviceAccounts", true, []string{`"web"`}, `wants one of "w*", "x", "web"`, []string{requesters + "serviceAccounts[0]", requesters + "serviceAccounts[2]"}}
	shop := func(passed bool, message string, used ...string) Check {
		return Check{requesters + "namespaceSelector", passed, []string{`"shop"`}, message, used}
	}
	const everyNamespace = `namespace "shop" has labels kubernetes.io/metadata.name=shop, team=a, the selector selects all`
	inShop := shop(true, everyNamespace, requesters+"namespaceSelector")
	pod := func(passed bool, message string, asked, used []string) Check {
		return Check{requesters + "podSelector", passed, asked, message, used}
	}
	withPods := func(key, value string) v1alpha1.Requesters {
		r := web
		r.PodSelector = &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
		return r
	}
	for name, c := range map[string]struct {
		requesters v1alpha1.Requesters
		ask        func(*csr.Request)
		facts      func(*Facts)
		selected   bool
		want       []Check // behind that of signerNames
	}{
		"nobody":          {v1alpha1.Requesters{}, nil, nil, false, []Check{{requesters[:len(requesters)-1], false, nil, "the policy selects nobody", nil}}},
		"no accounts":     {v1alpha1.Requesters{NamespaceSelector: web.NamespaceSelector}, nil, nil, false, []Check{{requesters[:len(requesters)-1], false, nil, "the policy selects nobody", nil}}},
		"no namespaces":   {v1alpha1.Requesters{ServiceAccounts: web.ServiceAccounts}, nil, nil, false, []Check{{requesters[:len(requesters)-1], false, nil, "the policy selects nobody", nil}}},
		"service account": {web, nil, nil, true, []Check{inShop, webAccount}},
		"other labels": {v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}, ServiceAccounts: web.ServiceAccounts}, nil, nil, false, []Check{
			shop(false, `namespace "shop" has labels kubernetes.io/metadata.name=shop, team=a, the selector wants team=b`), webAccount,
		}},
		"no labels": {v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}, ServiceAccounts: web.ServiceAccounts}, nil, func(f *Facts) { f.Namespace.Labels = nil }, false, []Check{
			shop(false, `namespace "shop" has no labels, the selector wants team=b`), webAccount,
		}},
		"other account": {v1alpha1.Requesters{NamespaceSelector: web.NamespaceSelector, ServiceAccounts: []string{"api"}}, nil, nil, false, []Check{
			inShop, {requesters + "serviceAccounts", false, []string{`"web"`}, `wants one of "api"`, nil},
		}},
		"namespace is gone": {web, nil, func(f *Facts) { f.Namespace = nil }, false, []Check{
			shop(false, `nothing is known about namespace "shop", as of one that is gone`), webAccount,
		}},
		"no service account": {web, func(r *csr.Request) { r.Requester = csr.Requester{Username: "jane"} }, nil, false, []Check{
			{requesters + "namespaceSelector", false, nil, "the requester is no service account", nil},
			{requesters + "serviceAccounts", false, []string{}, `wants one of "w*", "x", "web"`, nil},
		}},
		"pod": {withPods("tier", "front"), nil, nil, true, []Check{
			inShop, webAccount, pod(true, `pod "web-0" has labels tier=front, the selector wants tier=front`, []string{`"web-0"`}, []string{requesters + "podSelector"}),
		}},
		"other pod": {withPods("tier", "back"), nil, nil, false, []Check{
			inShop, webAccount, pod(false, `pod "web-0" has labels tier=front, the selector wants tier=back`, []string{`"web-0"`}, nil),
		}},
		"no pod": {withPods("tier", "front"), nil, func(f *Facts) { f.Pod = nil }, false, []Check{
			inShop, webAccount, pod(false, "the requester's token is bound to no pod", nil, nil),
		}},
		"pod is gone": {withPods("tier", "front"), nil, func(f *Facts) { f.Pod, f.PodProblem = nil, "pod shop/web-0 is gone" }, true, []Check{
			inShop, webAccount, pod(true, "unknown, as pod shop/web-0 is gone: selected, to be refused for that", nil, nil),
		}},
		"user, not group": {
			v1alpha1.Requesters{Users: []string{"ops", "jane"}, Groups: []string{"admins"}},
			func(r *csr.Request) { r.Requester = csr.Requester{Username: "jane", Groups: []string{"staff", "all"}} }, nil, true,
			[]Check{
				{requesters + "users", true, []string{`"jane"`}, `wants one of "ops", "jane"`, []string{requesters + "users[1]"}},
				{requesters + "groups", false, []string{`"staff"`, `"all"`}, `wants one of "admins"`, nil},
			},
		},
		"groups, not user": {
			v1alpha1.Requesters{Users: []string{"ops"}, Groups: []string{"admins", "all", "staff"}},
			func(r *csr.Request) { r.Requester = csr.Requester{Username: "jane", Groups: []string{"staff", "all"}} }, nil, true,
			[]Check{
				{requesters + "users", false, []string{`"jane"`}, `wants one of "ops"`, nil},
				{requesters + "groups", true, []string{`"staff"`, `"all"`}, `wants one of "admins", "all", "staff"`, []string{requesters + "groups[1]", requesters + "groups[2]"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) { s.Requesters = c.requesters })
			req, facts := plainRequest(), plainFacts(func(f *Facts) { f.Pod.Labels = map[string]string{"tier": "front"} })
			if c.ask != nil {
				c.ask(&req)
			}
			if c.facts != nil {
				c.facts(&facts)
			}
			e := Explain(req, facts, []*Policy{p})[0]
			if e.Selected != c.selected || e.Permitted != (c.selected && facts.PodProblem == "") || len(e.Rules) > 0 != c.selected {
				t.Errorf("got %+v", e)
			}
			checksAre(t, e.Selection, append(slices.Clone(yes), c.want...))
		})
	}
	t.Run("other signerName", func(t *testing.T) {
		p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) {
			s.SignerNames = []string{"example.com/one", "example.com/two"}
		})
		want := []Check{{"spec.signerNames", false, []string{`"example.com/internal"`}, `wants one of "example.com/one", "example.com/two"`, nil}}
		e := Explain(plainRequest(), plainFacts(), []*Policy{p})[0]
		if e.Selected || e.Permitted || e.Rules != nil {
			t.Errorf("got %+v", e)
		}
		checksAre(t, e.Selection, want)
	})
	t.Run("match conditions", func(t *testing.T) {
		p := named(t, "p", when(unknown, "requester.namespace ==\n'bank'", "true"))
		e := Explain(plainRequest(), plainFacts(), []*Policy{p})[0]
		if e.Selected || e.Permitted || e.Rules != nil {
			t.Errorf("got %+v", e)
		}
		checksAre(t, e.Selection[3:], []Check{
			{"spec.matchConditions[0]", true, nil, `"c0" cannot be evaluated: no such key: x; selected, to be refused for that`, nil},
			{"spec.matchConditions[1]", false, nil, `"c1" is false: requester.namespace == 'bank'`, []string{"spec.matchConditions[1]"}},
			{"spec.matchConditions[2]", true, nil, `"c2" is true: true`, []string{"spec.matchConditions[2]"}},
		})
	})
}

// everything allows one of each thing, and more that is not asked for.
func everything(s *v1alpha1.CertificatePolicySpec) {
	s.Allow = v1alpha1.Allow{
		DNSNames:       []string{"x.example.com", "{service}.{namespace}.svc", "*.example.com", "w.example.org"},
		Wildcards:      true,
		URIs:           []string{"spiffe://{trustDomain}/sa/{serviceAccount}", "spiffe://{trustDomain}/*/*"},
		IPAddresses:    []string{"192.0.2.0/24", "pod"},
		EmailAddresses: []string{"*@example.com"},
		CommonNames:    []string{"x", "w*"},
		Subject:        v1alpha1.Subject{Organizations: []string{"{namespace}"}},
		Usages:         s.Allow.Usages,
		Keys:           []v1alpha1.Key{{Algorithm: v1alpha1.RSA, MinSize: 2048}, {Algorithm: v1alpha1.ECDSA}},
		IsCA:           true,
		MaxDuration:    &metav1.Duration{Duration: time.Hour},
	}
	s.MatchConditions = []v1alpha1.MatchCondition{{Name: "c", Expression: "true"}}
	s.Validations = []v1alpha1.Validation{{Expression: "request.dnsNames.size() < 9"}}
}

func TestExplainPermit(t *testing.T) {
	p := named(t, "p", everything, manual, func(s *v1alpha1.CertificatePolicySpec) { s.Mode = v1alpha1.ModeAudit })
	req := plainRequest(askDNS("web.shop.svc", "*.example.com", "x.example.com"), askIPs("10.1.2.3", "fd00::7"), func(r *csr.Request) {
		r.Subject = pkix.Name{CommonName: "web", Organization: []string{"", "shop"}}
		r.URIs = append(r.URIs, mustURL(t, "spiffe://td.example/sa/web"))
		r.EmailAddresses, r.IsCA, r.Duration = []string{"ops@example.com"}, true, time.Hour+1
	})
	got := Explain(req, plainFacts(), []*Policy{p})
	if len(got) != 1 || got[0].Policy != "p" || got[0].Mode != v1alpha1.ModeAudit || got[0].Approval != v1alpha1.ApprovalManual || got[0].MaxDuration != time.Hour ||
		!got[0].Selected || !got[0].Permitted {
		t.Fatalf("got %+v", got)
	}
	const allow = "spec.allow."
	pass := func(field string, asked []string, message string, used ...string) Check {
		for i, suffix := range used {
			used[i] = allow + suffix
		}
		return Check{allow + field, true, asked, message, used}
	}
	checksAre(t, got[0].Rules, []Check{
		pass("commonNames", []string{`"web"`}, `allowed: "x", "w*"`, "commonNames[1]"),
		pass("subject.organizations", []string{`"shop"`}, `allowed: "shop"`, "subject.organizations[0]"),
		pass("dnsNames", []string{`"web.shop.svc"`, `"*.example.com"`, `"x.example.com"`}, `allowed: "x.example.com", "db.shop.svc", "web.shop.svc", "*.example.com", "w.example.org"`,
			"dnsNames[0]", "dnsNames[1]", "dnsNames[2]", "wildcards"),
		pass("uris", []string{`"spiffe://td.example/sa/web"`}, `allowed: "spiffe://td.example/sa/web", "spiffe://td.example/*/*"`, "uris[0]", "uris[1]"),
		pass("ipAddresses", []string{"10.1.2.3", "fd00::7"}, "allowed: 192.0.2.0/24, the pod's own [10.1.2.3 fd00::7]", "ipAddresses[1]"),
		pass("emailAddresses", []string{`"ops@example.com"`}, `allowed: "*@example.com"`, "emailAddresses[0]"),
		pass("usages", []string{`"server auth"`}, `allowed: "server auth"`, "usages[0]"),
		pass("keys", []string{"ECDSA of 256 bits"}, "allowed: RSA of at least 2048 bits, ECDSA", "keys[1]"),
		pass("isCA", []string{"true"}, "allowed: true", "isCA"),
		pass("maxDuration", []string{"1h0m0.000000001s"}, "shortened to 1h0m0s", "maxDuration"),
		{"spec.validations[0]", true, nil, "is true: request.dnsNames.size() < 9", []string{"spec.validations[0]"}},
	})
	want := []string{
		"spec.signerNames[0]", "spec.requesters.namespaceSelector", "spec.requesters.serviceAccounts[0]", "spec.matchConditions[0]",
		allow + "commonNames[0]", allow + "commonNames[1]", allow + "subject.organizations[0]",
		allow + "dnsNames[0]", allow + "dnsNames[1]", allow + "dnsNames[2]", allow + "dnsNames[3]", allow + "wildcards", allow + "uris[0]", allow + "uris[1]",
		allow + "ipAddresses[0]", allow + "ipAddresses[1]", allow + "emailAddresses[0]", allow + "usages[0]", allow + "keys[0]", allow + "keys[1]",
		allow + "isCA", allow + "maxDuration", "spec.validations[0]",
	}
	if rules := p.Rules(); !slices.Equal(rules, want) {
		t.Errorf("got  %v\nwant %v", rules, want)
	}
}

func TestRulesOfRequesters(t *testing.T) {
	p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) {
		s.SignerNames = []string{"example.com/a", "example.com/b"}
		s.Requesters = v1alpha1.Requesters{Users: []string{"a"}, Groups: []string{"b", "c"}, NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"*"}}
		s.Allow = v1alpha1.Allow{}
	})
	const requesters = "spec.requesters."
	want := []string{
		"spec.signerNames[0]", "spec.signerNames[1]", requesters + "users[0]", requesters + "groups[0]", requesters + "groups[1]",
		requesters + "namespaceSelector", requesters + "serviceAccounts[0]", requesters + "podSelector",
	}
	if rules := p.Rules(); !slices.Equal(rules, want) {
		t.Errorf("got  %v\nwant %v", rules, want)
	}
	if rules := named(t, "q", func(s *v1alpha1.CertificatePolicySpec) {
		s.SignerNames, s.Requesters, s.Allow = []string{"example.com/a"}, v1alpha1.Requesters{}, v1alpha1.Allow{}
	}).Rules(); !slices.Equal(rules, want[:1]) {
		t.Errorf("got %v", rules)
	}
}

func TestExplainDenial(t *testing.T) {
	p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) {
		s.Allow.DNSNames = []string{"{service}.{namespace}.svc", "*.example.com"}
		s.Allow.MaxDuration = &metav1.Duration{Duration: time.Hour}
		s.MatchConditions = []v1alpha1.MatchCondition{{Name: "c", Expression: unknown}}
		s.Validations = []v1alpha1.Validation{{Expression: "request.isCA", Message: "only for CAs"}, {Expression: unknown}}
	})
	req := plainRequest(askDNS("web.shop.svc", "web.bank.svc", "*.example.com"))
	facts := plainFacts(func(f *Facts) { f.PodProblem = "pod shop/web-0 has finished" })
	e := Explain(req, facts, []*Policy{p})[0]
	if !e.Selected || e.Permitted {
		t.Fatalf("got %+v", e)
	}
	checksAre(t, e.Rules, []Check{
		{"spec.matchConditions[0]", false, nil, `"c" cannot be evaluated: no such key: x`, nil},
		{"spec.requesters", false, []string{`"system:serviceaccount:shop:web"`}, `"system:serviceaccount:shop:web" not allowed (pod shop/web-0 has finished)`, nil},
		{
			"spec.allow.dnsNames", false,
			[]string{`"web.shop.svc"`, `"web.bank.svc"`, `"*.example.com"`},
			`"web.bank.svc", "*.example.com" not allowed (allowed: "db.shop.svc", "web.shop.svc", "*.example.com")`,
			[]string{"spec.allow.dnsNames[0]"},
		},
		{"spec.allow.usages", true, []string{`"server auth"`}, `allowed: "server auth"`, []string{"spec.allow.usages[0]"}},
		{"spec.allow.keys", true, []string{"ECDSA of 256 bits"}, "allowed: ECDSA, Ed25519, RSA of at least 2048 bits", []string{"spec.allow.keys[0]"}},
		{"spec.allow.maxDuration", true, nil, "shortened to 1h0m0s", []string{"spec.allow.maxDuration"}},
		{"spec.validations[0]", false, nil, "only for CAs", []string{"spec.validations[0]"}},
		{"spec.validations[1]", false, nil, "cannot be evaluated: no such key: x", nil},
	})
	// The same words as those of the decision.
	var words []string
	for _, c := range e.Rules {
		if !c.Passed {
			words = append(words, c.Message)
		}
	}
	var denied []string
	for _, v := range Decide(req, facts, []*Policy{p}).Denials[0].Violations {
		denied = append(denied, v.reason())
	}
	if !slices.Equal(words, denied) {
		t.Errorf("got  %q\nwant %q", words, denied)
	}
}

func TestExplainMaxDuration(t *testing.T) {
	p := named(t, "p", lasting(time.Hour))
	for name, c := range map[string]struct {
		asked time.Duration
		want  Check
	}{
		"none asked":  {0, Check{Message: "shortened to 1h0m0s", Used: []string{"spec.allow.maxDuration"}}},
		"shorter":     {time.Minute, Check{Asked: []string{"1m0s"}, Message: "at most 1h0m0s"}},
		"just so":     {time.Hour, Check{Asked: []string{"1h0m0s"}, Message: "at most 1h0m0s"}},
		"much longer": {9 * time.Hour, Check{Asked: []string{"9h0m0s"}, Message: "shortened to 1h0m0s", Used: []string{"spec.allow.maxDuration"}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := Explain(plainRequest(func(r *csr.Request) { r.Duration = c.asked }), plainFacts(), []*Policy{p})[0]
			c.want.Path, c.want.Passed = "spec.allow.maxDuration", true
			checksAre(t, e.Rules[2:], []Check{c.want})
		})
	}
}
