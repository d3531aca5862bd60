// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// when returns the match conditions c0, c1 and so on.
func when(expressions ...string) func(*v1alpha1.CertificatePolicySpec) {
	return func(s *v1alpha1.CertificatePolicySpec) {
		for i, text := range expressions {
			s.MatchConditions = append(s.MatchConditions, v1alpha1.MatchCondition{Name: fmt.Sprintf("c%d", i), Expression: text})
		}
	}
}

func validate(v ...v1alpha1.Validation) func(*v1alpha1.CertificatePolicySpec) {
	return func(s *v1alpha1.CertificatePolicySpec) { s.Validations = append(s.Validations, v...) }
}

// unknown is an expression that compiles and cannot be evaluated: nothing has this label.
const unknown = "namespaceObject.labels['x'] == 'y'"

func TestMatchConditions(t *testing.T) {
	const yes, no, failed = "requester.namespace == 'shop'", "requester.namespace == 'bank'", ` cannot be evaluated: no such key: x`
	for name, c := range map[string]struct {
		conditions []string
		want       Verdict
		refusals   string
	}{
		"true":             {[]string{yes}, Permit, ""},
		"all true":         {[]string{yes, yes}, Permit, ""},
		"false":            {[]string{no}, NoOpinion, ""},
		"first false":      {[]string{no, yes}, NoOpinion, ""},
		"last false":       {[]string{yes, no}, NoOpinion, ""},
		"unknown":          {[]string{unknown}, Deny, `matchConditions[0]: "c0"` + failed},
		"unknown and true": {[]string{yes, unknown, yes}, Deny, `matchConditions[1]: "c1"` + failed},
		"several unknown":  {[]string{unknown, yes, unknown}, Deny, `matchConditions[0]: "c0"` + failed + "\n" + `matchConditions[2]: "c2"` + failed},
		"false, unknown":   {[]string{no, unknown}, NoOpinion, ""},
		"unknown, false":   {[]string{unknown, no}, NoOpinion, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := named(t, "p", when(c.conditions...))
			d := Decide(plainRequest(), plainFacts(), []*Policy{p})
			if d.Verdict != c.want {
				t.Fatalf("got %v: %s", d.Verdict, d.Message())
			}
			if d.Verdict == Deny && refusals(t, d) != c.refusals {
				t.Errorf("got  %s\nwant %s", refusals(t, d), c.refusals)
			}
			e := Explain(plainRequest(), plainFacts(), []*Policy{p})[0]
			if e.Selected != (c.want != NoOpinion) || len(e.Rules) > 0 && !e.Selected || len(e.Selection) != 3+len(c.conditions) {
				t.Errorf("explained as %+v", e)
			}
		})
	}
	t.Run("whom the policy does not select", func(t *testing.T) {
		p := named(t, "p", forNobody, when(unknown))
		if d := Decide(plainRequest(), plainFacts(), []*Policy{p}); d.Verdict != NoOpinion {
			t.Errorf("got %v: %s", d.Verdict, d.Message())
		}
	})
}

func TestValidations(t *testing.T) {
	const few = "request.dnsNames.size() <= 1"
	for name, c := range map[string]struct {
		validations []v1alpha1.Validation
		want        string
	}{
		"true":                 {[]v1alpha1.Validation{{Expression: "request.dnsNames.size() <= 2"}}, ""},
		"false":                {[]v1alpha1.Validation{{Expression: few}}, "validations[0]: must be true: " + few},
		"message":              {[]v1alpha1.Validation{{Expression: few, Message: "at most 1 DNS name"}}, "validations[0]: at most 1 DNS name"},
		"message of two lines": {[]v1alpha1.Validation{{Expression: few, Message: "at\nmost\t1\u2028name\x1b[31m"}}, "validations[0]: at most 1 name [31m"},
		"expression of two":    {[]v1alpha1.Validation{{Expression: "request.dnsNames\n  .size() <= 1"}}, "validations[0]: must be true: request.dnsNames .size() <= 1"},
		"message expression":   {[]v1alpha1.Validation{{Expression: few, Message: "no", MessageExpression: "'at most ' + string(1)"}}, "validations[0]: at most 1"},
		"message that fails":   {[]v1alpha1.Validation{{Expression: few, Message: "this", MessageExpression: "namespaceObject.labels['x']"}}, "validations[0]: this"},
		"neither message":      {[]v1alpha1.Validation{{Expression: few, MessageExpression: "namespaceObject.labels['x']"}}, "validations[0]: must be true: " + few},
		"message when true":    {[]v1alpha1.Validation{{Expression: "true", Message: "no", MessageExpression: "'no'"}}, ""},
		"unknown":              {[]v1alpha1.Validation{{Expression: unknown, Message: "no"}}, "validations[0]: cannot be evaluated: no such key: x"},
		"each that is false":   {[]v1alpha1.Validation{{Expression: "true"}, {Expression: few}, {Expression: "true"}, {Expression: unknown}}, "validations[1]: must be true: " + few + "\nvalidations[3]: cannot be evaluated: no such key: x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := named(t, "p", names("*.example.com"), validate(c.validations...))
			d := Decide(plainRequest(askDNS("a.example.com", "b.example.com")), plainFacts(), []*Policy{p})
			if got := refusals(t, d); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("what is not allowed stays so", func(t *testing.T) {
		p := named(t, "p", validate(v1alpha1.Validation{Expression: "true"}, v1alpha1.Validation{Expression: "false", Message: "never"}))
		d := Decide(plainRequest(askDNS("a.example.com")), plainFacts(), []*Policy{p})
		if got, want := refusals(t, d), `dnsNames: "a.example.com" not allowed (the policy allows none)`+"\nvalidations[1]: never"; got != want {
			t.Errorf("got %s", got)
		}
	})
	t.Run("a long expression leaves room", func(t *testing.T) {
		p := named(t, "p", validate(v1alpha1.Validation{Expression: "'" + strings.Repeat("a", maxPlain) + "' == ''"}))
		if got := refusals(t, Decide(plainRequest(), plainFacts(), []*Policy{p})); len(got) > maxPlain+50 || !strings.HasSuffix(got, "a…") {
			t.Errorf("got %d bytes: %s", len(got), got)
		}
	})
}

// TestVariables holds every variable against the value that it must have.
func TestVariables(t *testing.T) {
	req := plainRequest(askDNS("a.example.com", "b.example.com"), askIPs("10.1.2.3", "fd00::7"), func(r *csr.Request) {
		r.URIs = append(r.URIs, mustURL(t, "spiffe://td.example/x"))
		r.EmailAddresses = []string{"ops@example.com"}
		r.Subject = pkix.Name{
			CommonName: "cn", Organization: []string{"o"}, OrganizationalUnit: []string{"ou"}, Country: []string{"c"}, Province: []string{"p"},
			Locality: []string{"l"}, StreetAddress: []string{"s"}, PostalCode: []string{"pc"}, SerialNumber: "sn",
		}
		r.Duration, r.IsCA, r.Requester.UID = time.Hour, true, "u-1"
	})
	facts := plainFacts(func(f *Facts) {
		f.Pod.Labels, f.Pod.Annotations, f.Pod.Node = map[string]string{"app": "web"}, map[string]string{"note": "x"}, "n1"
		f.Pod.Owner = &Owner{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web"}
	})
	everything := func(s *v1alpha1.CertificatePolicySpec) {
		star := []string{"*"}
		s.Allow.DNSNames, s.Allow.IPAddresses, s.Allow.URIs = []string{"*.example.com"}, []string{"pod", "10.1.2.3/32", "fd00::7/128"}, []string{"spiffe://td.example/*"}
		s.Allow.EmailAddresses, s.Allow.CommonNames, s.Allow.IsCA = []string{"*@example.com"}, star, true
		s.Allow.Subject = v1alpha1.Subject{
			Organizations: star, OrganizationalUnits: star, Countries: star, Provinces: star, Localities: star, StreetAddresses: star, PostalCodes: star, SerialNumbers: star,
		}
	}
	nobody := csr.Requester{Username: "jane", Groups: []string{"system:authenticated"}}
	for name, c := range map[string]struct {
		requester   csr.Requester
		facts       Facts
		expressions []string
	}{
		"all": {req.Requester, facts, []string{
			"request.signerName == 'example.com/internal'", "request.dnsNames == ['a.example.com', 'b.example.com']",
			"request.ipAddresses == ['10.1.2.3', 'fd00::7']", "request.uris == ['spiffe://td.example/x']", "request.emailAddresses == ['ops@example.com']",
			"request.subject.commonName == 'cn'", "request.subject.organizations == ['o']", "request.subject.organizationalUnits == ['ou']",
			"request.subject.countries == ['c']", "request.subject.provinces == ['p']", "request.subject.localities == ['l']",
			"request.subject.streetAddresses == ['s']", "request.subject.postalCodes == ['pc']", "request.subject.serialNumber == 'sn'",
			"request.key.algorithm == 'ECDSA'", "request.key.size == 256", "request.usages == ['server auth']", "request.duration == duration('1h')", "request.isCA",
			"requester.username == 'system:serviceaccount:shop:web'", "requester.uid == 'u-1'", "'system:serviceaccounts:shop' in requester.groups",
			"requester.namespace == 'shop'", "requester.serviceAccount == 'web'", "has(requester.pod)", "requester.pod.name == 'web-0'",
			"requester.pod.labels == {'app': 'web'}", "requester.pod.annotations == {'note': 'x'}", "requester.pod.node == 'n1'",
			"requester.pod.ips == ['10.1.2.3', 'fd00::7']", "has(requester.pod.owner)", "requester.pod.owner.apiVersion == 'apps/v1'",
			"requester.pod.owner.kind == 'StatefulSet'", "requester.pod.owner.name == 'web'",
			"namespaceObject.name == 'shop'", "namespaceObject.labels['team'] == 'a'",
			"services.size() == 2", "services[0].name == 'db' && services[0].headless", "services[1].name == 'web' && !services[1].headless",
		}},
		"pod without an owner":          {req.Requester, plainFacts(), []string{"has(requester.pod)", "!has(requester.pod.owner)", "requester.pod.labels.size() == 0"}},
		"pod without an address":        {req.Requester, plainFacts(func(f *Facts) { f.Pod.IPs = nil }), []string{"requester.pod.ips == []"}},
		"pod that awaits its addresses": {req.Requester, plainFacts(func(f *Facts) { f.Pod.IPsPending = true }), []string{"has(requester.pod) && !has(requester.pod.ips)"}},
		"a person":                      {nobody, Facts{}, []string{"requester.username == 'jane'", "!has(requester.pod)", "requester.namespace == ''", "requester.serviceAccount == ''", "namespaceObject == null", "services.size() == 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := req
			asked.Requester = c.requester
			p := named(t, "p", everything, func(s *v1alpha1.CertificatePolicySpec) {
				s.Requesters.Groups = []string{"system:authenticated"}
				for _, text := range c.expressions {
					s.Validations = append(s.Validations, v1alpha1.Validation{Expression: text})
				}
			})
			if got := refusals(t, Decide(asked, c.facts, []*Policy{p})); got != "" {
				t.Error(got)
			}
		})
	}
}

// TestHostileExpressions has one policy's expressions spend all that they may, between two policies that are not to feel it.
func TestHostileExpressions(t *testing.T) {
	const hostile = "request.dnsNames.exists(n, request.dnsNames.join('').matches('^x{900}'))" // costs what the pattern could do, and ends at once
	greedy := named(t, "greedy", func(s *v1alpha1.CertificatePolicySpec) {
		for range 12 {
			s.Validations = append(s.Validations, v1alpha1.Validation{Expression: hostile})
		}
	})
	modest := func(name string) *Policy {
		return named(t, name, validate(v1alpha1.Validation{Expression: "request.dnsNames.size() == 500"}))
	}
	req := plainRequest(func(r *csr.Request) {
		for i := range 500 {
			r.DNSNames = append(r.DNSNames, fmt.Sprintf("n%d.example.com", i))
		}
	})
	d := Decide(req, plainFacts(), []*Policy{modest("a"), greedy, modest("b")})
	if d.Verdict != Deny || len(d.Denials) != 3 {
		t.Fatalf("got %+v", d)
	}
	for i, want := range map[int]int{0: 0, 1: 12, 2: 0} {
		var stopped int
		for _, v := range d.Denials[i].Violations {
			if strings.Contains(v.Allowed, "cannot be evaluated: ") {
				stopped++
			}
		}
		if stopped != want || len(d.Denials[i].Violations) != want+1 {
			t.Errorf("%s: %d expressions of %d were stopped", d.Denials[i].Policy, stopped, want)
		}
	}
	last := d.Denials[1].Violations
	if !strings.Contains(last[len(last)-1].Allowed, "together") {
		t.Errorf("the expressions of a policy share no budget: %v", last[len(last)-1])
	}
}

func TestCompileRefusesExpressions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.CertificatePolicySpec)
		want   []string
	}{
		"syntax":               {validate(v1alpha1.Validation{Expression: "true"}, v1alpha1.Validation{Expression: "true &&\n  )"}), []string{"spec.validations[1].expression: Invalid value: ", ": 2:3: "}},
		"unknown variable":     {validate(v1alpha1.Validation{Expression: "object.name == ''"}), []string{`spec.validations[0].expression: Invalid value: "object.name == ''": 1:1: undeclared reference to 'object'`}},
		"unknown field":        {validate(v1alpha1.Validation{Expression: "request.dns == []"}), []string{"spec.validations[0].expression", "1:8: ", "dns"}},
		"no bool":              {validate(v1alpha1.Validation{Expression: "request.signerName"}), []string{"spec.validations[0].expression", "must yield bool, yields string"}},
		"empty":                {validate(v1alpha1.Validation{}), []string{`spec.validations[0].expression: Invalid value: ""`}},
		"message is no string": {validate(v1alpha1.Validation{Expression: "true", MessageExpression: "1"}), []string{`spec.validations[0].messageExpression: Invalid value: "1": must yield string, yields int`}},
		"condition":            {when("true", "1"), []string{`spec.matchConditions[1].expression: Invalid value: "1": must yield bool, yields int`}},
		"condition's name": {func(s *v1alpha1.CertificatePolicySpec) {
			s.MatchConditions = []v1alpha1.MatchCondition{{Name: "a", Expression: "true"}, {Name: "b", Expression: "true"}, {Name: "a", Expression: "true"}, {Expression: "true"}}
		}, []string{`spec.matchConditions[2].name: Duplicate value: "a"`, "spec.matchConditions[3].name: Required value"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(plainPolicy(c.change))
			if err == nil || p != nil {
				t.Fatalf("compiled: %v, %v", p, err)
			}
			if !slices.ContainsFunc(c.want, func(want string) bool { return !strings.Contains(err.Error(), want) }) {
				return
			}
			t.Errorf("error is %q, want one with %q", err, c.want)
		})
	}
}

func TestAwaitsAddresses(t *testing.T) {
	pending := plainFacts(func(f *Facts) { f.Pod.IPs, f.Pod.IPsPending = nil, true })
	known := plainFacts()
	own := func(s *v1alpha1.CertificatePolicySpec) { s.Allow.IPAddresses = []string{"pod"} }
	validated := func(s *v1alpha1.CertificatePolicySpec) {
		s.Validations = []v1alpha1.Validation{{Expression: "requester.pod.ips.all(a, false)"}}
	}
	address := func(r *csr.Request) { r.IPAddresses = []netip.Addr{netip.MustParseAddr("10.9.9.9")} }
	name := func(r *csr.Request) { r.DNSNames = []string{"a.example.com"} }
	for title, c := range map[string]struct {
		facts  Facts
		policy func(*v1alpha1.CertificatePolicySpec)
		ask    func(*csr.Request)
		want   bool
	}{
		"an address":                    {pending, own, address, true},
		"an address, all being known":   {known, own, address, false},
		"a validation":                  {pending, validated, name, true},
		"a validation, all being known": {known, validated, name, false},
		"a name only":                   {pending, own, name, false},
		"nothing is refused":            {pending, own, func(*csr.Request) {}, false},
		"no pod":                        {Facts{}, own, address, false},
	} {
		t.Run(title, func(t *testing.T) {
			facts := c.facts
			facts.Namespace = known.Namespace
			d := Decide(plainRequest(c.ask), facts, []*Policy{named(t, "p", c.policy)})
			if got := d.AwaitsAddresses(facts); got != c.want {
				t.Errorf("got %t for %s", got, d.Message())
			}
		})
	}
}
