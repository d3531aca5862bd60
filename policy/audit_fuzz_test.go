// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/expression"
)

// samples are expressions of all outcomes; a policy in a fuzz test picks from them.
var samples = []string{
	"true", "false", unknown, "request.dnsNames.size() <= 1", "has(requester.pod) && requester.pod.name == 'web-0'",
	"requester.serviceAccount == 'web'", "request.isCA", "services[0].headless",
}

// fullPolicy is a policy with all that a policy may have.
func (s *source) fullPolicy(name string) *v1alpha1.CertificatePolicy {
	p := s.policy()
	p.Name = name
	if s.pick(2) == 1 {
		everything(&p.Spec)
	}
	p.Spec.SignerNames = some(s, signerName, "example.com/other")
	if s.pick(4) > 0 {
		p.Spec.SignerNames = []string{signerName}
	}
	p.Spec.Requesters.Users = some(s, "system:serviceaccount:shop:x")
	p.Spec.Requesters.NamespaceSelector = []*metav1.LabelSelector{{}, {}, pinned("shop"), pinned("bank"), nil}[s.pick(5)]
	p.Spec.Requesters.PodSelector = []*metav1.LabelSelector{nil, nil, {}, {MatchLabels: map[string]string{"tier": "front"}}}[s.pick(4)]
	if s.pick(8) == 1 {
		when(some(s, samples...)...)(&p.Spec)
	}
	if s.pick(3) == 1 {
		p.Spec.Validations = s.validations()
	}
	p.Spec.Mode = []v1alpha1.Mode{"Enforce", "Enforce", "", "Audit"}[s.pick(4)]
	if s.pick(2) == 1 {
		p.Spec.Quotas = []v1alpha1.Quota{{Per: "Pod", MaxPending: int32(1 + s.pick(9))}}
	}
	if s.pick(2) == 1 {
		p.Spec.Allow.MaxDuration = &metav1.Duration{Duration: time.Duration(1+s.pick(3)) * time.Hour}
	}
	return p
}

// validations are some samples.
func (s *source) validations() []v1alpha1.Validation {
	var all []v1alpha1.Validation
	for _, text := range some(s, samples...) {
		all = append(all, v1alpha1.Validation{Expression: text, Message: []string{"", "message"}[s.pick(2)], MessageExpression: []string{"", "requester.pod.labels['tier']"}[s.pick(2)]})
	}
	return all
}

// variants are a random policy as it is, in mode Audit, enforced, and enforced with more validations.
type variants struct {
	source                      *v1alpha1.CertificatePolicy
	plain, audit, loose, strict *Policy
}

// pool has many random policies, compiled once, as that takes longer than everything that is done with them.
var pool = sync.OnceValue(func() []variants {
	random := rand.New(rand.NewPCG(7, 8))
	all := make([]variants, 0, 100)
	for i := range cap(all) {
		s := &source{noise(random, 200, i)}
		p := s.fullPolicy(fmt.Sprintf("p%d", i))
		compile := func(mode v1alpha1.Mode, more ...v1alpha1.Validation) *Policy {
			p := p.DeepCopy()
			p.Spec.Mode = mode
			p.Spec.Validations = append(p.Spec.Validations, more...)
			compiled, err := Compile(p)
			if err != nil {
				panic(err)
			}
			return compiled
		}
		all = append(all, variants{
			p, compile(p.Spec.Mode), compile(v1alpha1.ModeAudit), compile(v1alpha1.ModeEnforce), compile(v1alpha1.ModeEnforce, s.validations()...),
		})
	}
	return all
})

// noise is random bytes, of which a part that differs with i makes policies allow and requests ask for most.
func noise(random *rand.Rand, n, i int) []byte {
	data := make([]byte, n)
	for j := range data {
		data[j] = byte(random.IntN(256))
		if random.IntN(3) < i%4 {
			data[j] |= 1
		}
	}
	return data
}

// modestRequest asks for little, so that it is permitted now and then.
func (s *source) modestRequest(t testing.TB, free string) csr.Request {
	if s.pick(4) == 1 {
		return s.request(t, free)
	}
	return plainRequest(func(r *csr.Request) {
		r.Requester = serviceAccount("shop", []string{"web", "web", "x"}[s.pick(3)])
		r.DNSNames = [][]string{nil, {"web.shop.svc"}, {"db.shop.svc", "*.example.com"}, {free}}[s.pick(4)]
		r.IPAddresses = [][]netip.Addr{nil, nil, {netip.MustParseAddr("10.1.2.3")}}[s.pick(3)]
		r.Subject.CommonName = []string{"", "", "web"}[s.pick(3)]
		r.IsCA = s.pick(8) == 1
	})
}

func (s *source) facts(free string) Facts {
	return plainFacts(func(f *Facts) {
		f.Services = some(s, f.Services...)
		f.Pod.Labels = map[string]string{"tier": []string{"front", "back", free}[s.pick(3)]}
		switch s.pick(8) {
		case 1:
			f.Pod = nil
		case 2:
			f.Pod, f.PodProblem = nil, "pod is gone "+free
		}
		if s.pick(8) == 1 {
			f.Namespace = nil
		}
	})
}

// FuzzPolicies decides with some of many random policies. Nothing may panic, and these must hold:
//   - Set.Decide and Explain come to the same decision;
//   - adding a validation permits nothing that was not permitted, and selects nothing else;
//   - adding a policy in mode Audit changes nothing but Audits.
func FuzzPolicies(f *testing.F) {
	random := rand.New(rand.NewPCG(9, 10))
	for i := range 400 {
		f.Add(noise(random, 100, i), []string{"a.svc", "request.dnsNames == []", "request.uris[9] == ''", "w"}[i%4])
	}
	f.Fuzz(func(t *testing.T, data []byte, free string) {
		s := &source{data}
		pick := func() variants { return pool()[s.pick(len(pool()))] }
		var policies []*Policy
		for range 1 + s.pick(4) {
			policies = append(policies, pick().plain)
		}
		one, audit, at := pick(), pick().audit, s.pick(len(policies)+1)
		req, facts := s.modestRequest(t, free), s.facts(free)
		req.Duration = time.Duration(s.pick(3)) * time.Hour

		decision := Decide(req, facts, policies)
		if got := NewSet(req.SignerName, policies).Decide(req, facts); !reflect.DeepEqual(got, decision) {
			t.Errorf("the set decides %+v, without one it is %+v", got, decision)
		}
		checkExplanation(t, decision, Explain(req, facts, policies), policies)

		audited := Decide(req, facts, slices.Insert(slices.Clone(policies), at, audit))
		if len(audited.Audits) < len(decision.Audits) {
			t.Errorf("audits were lost: %+v and %+v", decision.Audits, audited.Audits)
		}
		if audited.Audits = decision.Audits; !reflect.DeepEqual(audited, decision) {
			t.Errorf("an audit changes the decision %+v into %+v", decision, audited)
		}

		strict := []*Policy{one.strict}
		if _, err := expression.CompileBool(free); err == nil {
			p := one.source.DeepCopy()
			p.Spec.Mode = v1alpha1.ModeEnforce
			p.Spec.Validations = append(p.Spec.Validations, v1alpha1.Validation{Expression: free, Message: free})
			strict = append(strict, mustCompile(t, p))
		}
		before := Decide(req, facts, []*Policy{one.loose}).Verdict
		for _, p := range strict {
			after := Decide(req, facts, []*Policy{p}).Verdict
			if after == Permit && before != Permit || (after == NoOpinion) != (before == NoOpinion) {
				t.Errorf("more validations turned %v into %v", before, after)
			}
		}
	})
}

// checkExplanation draws the decision from what was explained.
func checkExplanation(t *testing.T, decision Decision, explained []Evaluation, policies []*Policy) {
	t.Helper()
	var want Decision
	for i, e := range explained {
		p := policies[i]
		for _, c := range slices.Concat(e.Selection, e.Rules) {
			if c.Path == "" || c.Message == "" {
				t.Errorf("a check that explains nothing: %+v", c)
			}
			for _, used := range c.Used {
				if !slices.Contains(p.Rules(), used) {
					t.Errorf("%s is no rule of the policy: %v", used, p.Rules())
				}
			}
		}
		var violations []string
		for _, c := range e.Rules {
			if !c.Passed {
				violations = append(violations, c.Message)
			}
		}
		if e.Permitted != (e.Selected && len(violations) == 0) || e.Policy != p.Name || len(e.Rules) > 0 && !e.Selected {
			t.Errorf("an explanation that contradicts itself: %+v", e)
		}
		switch permit := (Decision{Verdict: Permit, Policy: e.Policy, Approval: e.Approval, MaxDuration: e.MaxDuration, Quotas: p.quotas}); {
		case !e.Selected:
		case e.Mode == v1alpha1.ModeAudit:
			want.Audits = append(want.Audits, Audit{e.Policy, nil})
			checkWords(t, violations, decision.Audits[len(want.Audits)-1].Violations)
		case e.Permitted && (want.Verdict != Permit || permit.outranks(want)):
			permit.Audits = want.Audits
			want = permit
		case !e.Permitted && want.Verdict != Permit:
			want.Verdict = Deny
			want.Denials = append(want.Denials, Denial{e.Policy, nil})
			if decision.Verdict == Deny {
				checkWords(t, violations, decision.Denials[len(want.Denials)-1].Violations)
			}
		}
	}
	decision.Audits, decision.Denials = slices.Clone(decision.Audits), slices.Clone(decision.Denials)
	for i := range decision.Audits {
		decision.Audits[i].Violations = nil
	}
	for i := range decision.Denials {
		decision.Denials[i].Violations = nil
	}
	if !reflect.DeepEqual(decision, want) {
		t.Errorf("decided %+v, but explained %+v", decision, want)
	}
}

func checkWords(t *testing.T, explained []string, violations []Violation) {
	t.Helper()
	if decided := each(violations, Violation.reason); !slices.Equal(explained, decided) {
		t.Errorf("explained %q, but decided %q", explained, decided)
	}
}
