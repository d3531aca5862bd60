// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/x509/pkix"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/excerpt"
)

func manual(s *v1alpha1.CertificatePolicySpec) { s.Approval = v1alpha1.ApprovalManual }

func lasting(d time.Duration) func(*v1alpha1.CertificatePolicySpec) {
	return func(s *v1alpha1.CertificatePolicySpec) { s.Allow.MaxDuration = &metav1.Duration{Duration: d} }
}

func names(dns ...string) func(*v1alpha1.CertificatePolicySpec) {
	return func(s *v1alpha1.CertificatePolicySpec) { s.Allow.DNSNames = dns }
}

func forNobody(s *v1alpha1.CertificatePolicySpec) { s.Requesters = v1alpha1.Requesters{} }

func TestSeveralPolicies(t *testing.T) {
	const hour = time.Hour
	permit := func(name string, approval v1alpha1.Approval, d time.Duration) Decision {
		return Decision{Verdict: Permit, Policy: name, Approval: approval, MaxDuration: d}
	}
	const automatic, byHand = v1alpha1.ApprovalAutomatic, v1alpha1.ApprovalManual
	ab := []string{"a.example.com", "b.example.com"}
	for name, c := range map[string]struct {
		ask      []string
		policies []*Policy
		want     Decision // its Denials are the names of policies only
	}{
		"none":                          {nil, nil, Decision{}},
		"none that selects":             {nil, []*Policy{named(t, "a", forNobody), named(t, "b", forNobody)}, Decision{}},
		"one of two selects":            {nil, []*Policy{named(t, "a", forNobody), named(t, "b")}, permit("b", automatic, 0)},
		"approval left out":             {nil, []*Policy{named(t, "a")}, permit("a", automatic, 0)},
		"manual":                        {nil, []*Policy{named(t, "a", manual, lasting(hour))}, permit("a", byHand, hour)},
		"automatic before manual":       {nil, []*Policy{named(t, "a", manual), named(t, "b")}, permit("b", automatic, 0)},
		"longer behind a manual gate":   {nil, []*Policy{named(t, "a", manual, lasting(9*hour)), named(t, "b", lasting(hour))}, permit("b", automatic, hour)},
		"unlimited behind a gate":       {nil, []*Policy{named(t, "a", manual), named(t, "b", lasting(hour))}, permit("b", automatic, hour)},
		"automatic for other names":     {ab, []*Policy{named(t, "a", manual, names(ab...)), named(t, "b", names(ab[0]))}, permit("a", byHand, 0)},
		"longest among equals":          {nil, []*Policy{named(t, "a", lasting(hour)), named(t, "b", lasting(3*hour)), named(t, "c", lasting(2*hour))}, permit("b", automatic, 3*hour)},
		"unlimited among equals":        {nil, []*Policy{named(t, "a", lasting(hour)), named(t, "b"), named(t, "c", lasting(2*hour))}, permit("b", automatic, 0)},
		"longest among manual":          {nil, []*Policy{named(t, "a", manual, lasting(hour)), named(t, "b", manual, lasting(2*hour))}, permit("b", byHand, 2*hour)},
		"first name among the same":     {nil, []*Policy{named(t, "c"), named(t, "a"), named(t, "b")}, permit("a", automatic, 0)},
		"longest that permits":          {ab[:1], []*Policy{named(t, "a", lasting(9*hour)), named(t, "b", names(ab...), lasting(hour))}, permit("b", automatic, hour)},
		"never combined":                {ab, []*Policy{named(t, "a", names(ab[0])), named(t, "b", names(ab[1]))}, Decision{Verdict: Deny, Denials: []Denial{{Policy: "a"}, {Policy: "b"}}}},
		"one permits all":               {ab, []*Policy{named(t, "a", names(ab[0])), named(t, "b", names(ab...)), named(t, "c", names(ab[1]))}, permit("b", automatic, 0)},
		"denials of those that select":  {ab, []*Policy{named(t, "a", forNobody), named(t, "b", names(ab[1]))}, Decision{Verdict: Deny, Denials: []Denial{{Policy: "b"}}}},
		"denials are gone with permits": {nil, []*Policy{named(t, "a", func(s *v1alpha1.CertificatePolicySpec) { s.Allow.Keys = nil }), named(t, "b")}, permit("b", automatic, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			req := plainRequest(askDNS(c.ask...))
			order := slices.Clone(c.policies)
			for range 20 {
				got := Decide(req, plainFacts(), order)
				for i := range got.Denials {
					if len(got.Denials[i].Violations) == 0 {
						t.Errorf("denial without violations: %+v", got.Denials[i])
					}
					got.Denials[i].Violations = nil
				}
				slices.SortFunc(got.Denials, func(a, b Denial) int { return strings.Compare(a.Policy, b.Policy) })
				if !reflect.DeepEqual(got, c.want) {
					t.Fatalf("got  %+v\nwant %+v", got, c.want)
				}
				rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			}
		})
	}
}

// TestOrderOfPolicies decides about random sets of policies in random orders.
func TestOrderOfPolicies(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	durations := []time.Duration{0, time.Hour, 2 * time.Hour, 3 * time.Hour}
	for range 300 {
		var policies []*Policy
		for i := range 1 + random.IntN(6) {
			p := named(t, fmt.Sprintf("p%d", i), names([]string{"a.example.com", "b.example.com", "*.example.com"}[random.IntN(3)]))
			p.allow.maxDuration = durations[random.IntN(len(durations))]
			if random.IntN(2) == 0 {
				p.approval = v1alpha1.ApprovalManual
			}
			if random.IntN(4) == 0 {
				p.signerNames = nil
			}
			policies = append(policies, p)
		}
		req := plainRequest(askDNS("a.example.com"))
		first := Decide(req, plainFacts(), policies)
		for range 5 {
			random.Shuffle(len(policies), func(i, j int) { policies[i], policies[j] = policies[j], policies[i] })
			again := Decide(req, plainFacts(), policies)
			if len(again.Denials) != len(first.Denials) {
				t.Fatalf("other denials: %+v and %+v", first, again)
			}
			again.Denials = first.Denials
			if !reflect.DeepEqual(first, again) {
				t.Fatalf("other decision: %+v and %+v", first, again)
			}
		}
	}
}

func audit(s *v1alpha1.CertificatePolicySpec) { s.Mode = v1alpha1.ModeAudit }

func enforce(s *v1alpha1.CertificatePolicySpec) { s.Mode = v1alpha1.ModeEnforce }

func TestAudit(t *testing.T) {
	const name = "a.example.com"
	refusal := []Violation{{Field: "dnsNames", Values: []string{`"a.example.com"`}, Allowed: "the policy allows none"}}
	for title, c := range map[string]struct {
		policies []*Policy
		want     Decision
	}{
		"that would permit":   {[]*Policy{named(t, "a", audit, names(name))}, Decision{Audits: []Audit{{"a", nil}}}},
		"that would deny":     {[]*Policy{named(t, "a", audit)}, Decision{Audits: []Audit{{"a", refusal}}}},
		"that selects nobody": {[]*Policy{named(t, "a", audit, forNobody)}, Decision{}},
		"permit, then a denial": {[]*Policy{named(t, "a", enforce, names(name)), named(t, "b", audit)}, Decision{
			Verdict: Permit, Policy: "a", Approval: v1alpha1.ApprovalAutomatic, Audits: []Audit{{"b", refusal}},
		}},
		"outranks the permit before it": {[]*Policy{named(t, "b", names(name), manual, lasting(time.Hour)), named(t, "a", audit, names(name))}, Decision{
			Verdict: Permit, Policy: "b", Approval: v1alpha1.ApprovalManual, MaxDuration: time.Hour, Audits: []Audit{{"a", nil}},
		}},
		"before the permit": {[]*Policy{named(t, "a", audit, names(name)), named(t, "c", audit), named(t, "b", names(name), manual)}, Decision{
			Verdict: Permit, Policy: "b", Approval: v1alpha1.ApprovalManual, Audits: []Audit{{"a", nil}, {"c", refusal}},
		}},
		"would permit what is denied": {[]*Policy{named(t, "a", audit, names(name)), named(t, "b")}, Decision{
			Verdict: Deny, Denials: []Denial{{"b", refusal}}, Audits: []Audit{{"a", nil}},
		}},
		"is ranked below all": {[]*Policy{named(t, "a", names(name)), named(t, "b", audit, manual, lasting(time.Second))}, Decision{
			Verdict: Permit, Policy: "a", Approval: v1alpha1.ApprovalAutomatic, Audits: []Audit{{"b", refusal}},
		}},
	} {
		t.Run(title, func(t *testing.T) {
			if got := Decide(plainRequest(askDNS(name)), plainFacts(), c.policies); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestDenyNamesEveryField(t *testing.T) {
	p := named(t, "strict", func(s *v1alpha1.CertificatePolicySpec) { s.Allow = v1alpha1.Allow{} })
	req := plainRequest(func(r *csr.Request) {
		r.Subject = pkix.Name{
			CommonName: "x", Organization: []string{"x"}, OrganizationalUnit: []string{"x"}, Country: []string{"x"}, Province: []string{"x"},
			Locality: []string{"x"}, StreetAddress: []string{"x"}, PostalCode: []string{"x"}, SerialNumber: "x",
		}
		r.DNSNames = []string{"x"}
		r.URIs = append(r.URIs, mustURL(t, "spiffe://x"))
		r.IPAddresses = []netip.Addr{netip.MustParseAddr("10.1.1.1")}
		r.EmailAddresses = []string{"x@x"}
		r.IsCA = true
	})
	d := Decide(req, plainFacts(func(f *Facts) { f.PodProblem = "pod is gone" }), []*Policy{p, p})
	if d.Verdict != Deny || len(d.Denials) != 2 || d.Policy != "" || d.Approval != "" || d.MaxDuration != 0 {
		t.Fatalf("got %+v", d)
	}
	want := []string{
		"requester", "commonNames", "subject.organizations", "subject.organizationalUnits", "subject.countries", "subject.provinces", "subject.localities",
		"subject.streetAddresses", "subject.postalCodes", "subject.serialNumbers", "dnsNames", "uris", "ipAddresses", "emailAddresses", "usages", "keys", "isCA",
	}
	for _, denial := range d.Denials {
		var got []string
		for _, v := range denial.Violations {
			got = append(got, v.Field)
			if len(v.Values) == 0 || v.Allowed == "" {
				t.Errorf("violation does not explain itself: %+v", v)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
}

func TestMessage(t *testing.T) {
	violation := Violation{Field: "dnsNames", Values: []string{`"a"`, `"b"`}, Allowed: `allowed: "c"`}
	for name, c := range map[string]struct {
		decision Decision
		want     string
	}{
		"zero value":      {Decision{}, "No CertificatePolicy selects this requester for this signerName."},
		"unknown verdict": {Decision{Verdict: 7}, "No CertificatePolicy selects this requester for this signerName."},
		"only audits":     {Decision{Audits: []Audit{{Policy: "a"}, {Policy: "b"}}}, `No CertificatePolicy selects this requester for this signerName, but for those in mode Audit, which decide nothing: "a", "b".`},
		"one audit":       {Decision{Audits: []Audit{{Policy: "a"}}}, `No CertificatePolicy selects this requester for this signerName, but for those in mode Audit, which decide nothing: "a".`},
		"expression":      {Decision{Verdict: Deny, Denials: []Denial{{"p", []Violation{{"validations[0]", nil, "at most 1 name"}}}}}, `CertificatePolicy "p": validations[0]: at most 1 name.`},
		"permit":          {Decision{Verdict: Permit, Policy: "web"}, `Permitted by CertificatePolicy "web".`},
		"deny": {
			Decision{Verdict: Deny, Denials: []Denial{{"one", []Violation{violation, {"isCA", []string{"true"}, "allowed: false"}}}, {"two", []Violation{violation}}}},
			`CertificatePolicy "one": dnsNames: "a", "b" not allowed (allowed: "c"); isCA: true not allowed (allowed: false). ` +
				`CertificatePolicy "two": dnsNames: "a", "b" not allowed (allowed: "c").`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.decision.Message(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMessageIsBounded(t *testing.T) {
	many := func(n int, text string) []string { return slices.Repeat([]string{text}, n) }
	deny := func(v ...Violation) Decision { return Decision{Verdict: Deny, Denials: []Denial{{"p", v}}} }

	t.Run("a long list leaves room for the next field", func(t *testing.T) {
		message := deny(Violation{"dnsNames", many(500, `"x"`), "allowed: y"}, Violation{"isCA", []string{"true"}, "z"}).Message()
		if strings.Count(message, `"x"`) != maxListed || !strings.Contains(message, `"x" and 480 more not allowed (allowed: y); isCA: true not allowed (z)`) {
			t.Errorf("got %s", message)
		}
	})
	t.Run("a list as long as may be", func(t *testing.T) {
		if got := list(many(maxListed, "x")); got != strings.TrimSuffix(strings.Repeat("x, ", maxListed), ", ") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("allowed values", func(t *testing.T) {
		if got := allowedList(many(21, "x")); !strings.HasSuffix(got, "x and 1 more") {
			t.Errorf("got %s", got)
		}
	})
	// Three bytes a character: wherever the cut falls, no character may be cut in half.
	for shift := range 3 {
		t.Run(fmt.Sprintf("characters shifted by %d", shift), func(t *testing.T) {
			message := deny(Violation{"dnsNames", []string{strings.Repeat("a", shift) + strings.Repeat("€", excerpt.MaxCondition)}, "x"}).Message()
			if len(message) > excerpt.MaxCondition || len(message) < excerpt.MaxCondition-3 || !utf8.ValidString(message) || !strings.HasSuffix(message, "€…") {
				t.Errorf("%d bytes, ends with %q", len(message), message[len(message)-9:])
			}
		})
	}
	t.Run("as long as may be", func(t *testing.T) {
		empty := len(deny(Violation{"f", []string{""}, "x"}).Message())
		if message := deny(Violation{"f", []string{strings.Repeat("a", excerpt.MaxCondition-empty)}, "x"}).Message(); len(message) != excerpt.MaxCondition || !strings.HasSuffix(message, "(x).") {
			t.Errorf("%d bytes, ends with %q", len(message), message[len(message)-9:])
		}
	})
}

func TestZeroValues(t *testing.T) {
	var d Decision
	if d.Verdict != NoOpinion || d.Verdict == Permit || d.Verdict.String() != "NoOpinion" {
		t.Errorf("the zero verdict is %v", d.Verdict)
	}
	if got := []string{Deny.String(), Permit.String(), Verdict(-1).String()}; !slices.Equal(got, []string{"Deny", "Permit", "NoOpinion"}) {
		t.Errorf("verdicts are %v", got)
	}
	if d := Decide(csr.Request{}, Facts{}, []*Policy{{}}); d.Verdict != NoOpinion {
		t.Errorf("a zero policy decides %v", d.Verdict)
	}
	if d := Decide(csr.Request{}, Facts{}, []*Policy{named(t, "p")}); d.Verdict != NoOpinion {
		t.Errorf("a zero request is decided %v", d.Verdict)
	}
	if d := Decide(plainRequest(), Facts{}, []*Policy{named(t, "p")}); d.Verdict != NoOpinion {
		t.Errorf("zero facts decide %v", d.Verdict)
	}
}
