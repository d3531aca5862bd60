// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// pinned selects the namespaces of these names.
func pinned(names ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: names}}}
}

func TestSetLooksOnlyAtCandidates(t *testing.T) {
	in := func(requirements ...string) *metav1.LabelSelector {
		selector := &metav1.LabelSelector{}
		for i := 0; i < len(requirements); i += 3 {
			r := metav1.LabelSelectorRequirement{Key: requirements[i], Operator: metav1.LabelSelectorOperator(requirements[i+1])}
			if requirements[i+2] != "" {
				r.Values = strings.Split(requirements[i+2], "|")
			}
			selector.MatchExpressions = append(selector.MatchExpressions, r)
		}
		return selector
	}
	const name = corev1.LabelMetadataName
	of := func(selector *metav1.LabelSelector) v1alpha1.Requesters {
		return v1alpha1.Requesters{NamespaceSelector: selector, ServiceAccounts: []string{"*"}}
	}
	both := of(in(name, "In", "shop"))
	both.Users = []string{"jane"}
	for title, c := range map[string]struct {
		requesters v1alpha1.Requesters
		want       []string // whose requests the policy is looked at for
	}{
		"nobody":                 {v1alpha1.Requesters{}, nil},
		"user":                   {v1alpha1.Requesters{Users: []string{"jane"}}, []string{"user jane"}},
		"group":                  {v1alpha1.Requesters{Groups: []string{"ops"}}, []string{"group ops"}},
		"namespace by name":      {of(&metav1.LabelSelector{MatchLabels: map[string]string{name: "shop"}}), []string{"name=shop"}},
		"one of two namespaces":  {of(in(name, "In", "bank|shop")), []string{"name=bank", "name=shop"}},
		"name behind a label":    {of(in("a", "In", "x|y", name, "In", "shop")), []string{"name=shop"}},
		"name before a label":    {of(in(name, "In", "shop", "team", "In", "a")), []string{"name=shop"}},
		"label":                  {of(in("team", "In", "a|b")), []string{"team=a", "team=b"}},
		"first of two labels":    {of(in("zone", "In", "z", "team", "In", "a")), []string{"team=a"}},
		"label and other things": {of(in("a", "Exists", "", "b", "DoesNotExist", "", "c", "NotIn", "x", "d", "In", "y")), []string{"d=y"}},
		"label that is there":    {of(in("team", "Exists", "")), []string{"anywhere"}},
		"label that is not":      {of(in("team", "DoesNotExist", "")), []string{"anywhere"}},
		"other names":            {of(in(name, "NotIn", "shop")), []string{"anywhere"}},
		"every namespace":        {of(&metav1.LabelSelector{}), []string{"anywhere"}},
		"half a selection":       {v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}}, nil},
		"other half":             {v1alpha1.Requesters{ServiceAccounts: []string{"*"}}, nil},
		"user and namespace":     {both, []string{"name=shop", "user jane"}},
	} {
		t.Run(title, func(t *testing.T) {
			p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) { s.Requesters = c.requesters })
			x := NewSet(signerName, []*Policy{p})
			var got []string
			for user := range x.users {
				got = append(got, "user "+user)
			}
			for group := range x.groups {
				got = append(got, "group "+group)
			}
			for l := range x.namespaces {
				got = append(got, strings.TrimPrefix(l.key, "kubernetes.io/metadata.")+"="+l.value)
			}
			if len(x.anywhere) > 0 {
				got = append(got, "anywhere")
			}
			if slices.Sort(got); !slices.Equal(got, c.want) {
				t.Errorf("looked at for %q, want %q", got, c.want)
			}
		})
	}
}

func TestSetNeverChanges(t *testing.T) {
	policies := []*Policy{named(t, "a"), named(t, "b", forNobody)}
	s := NewSet(signerName, policies)
	policies[0] = policies[1]
	for range 2 {
		if d := s.Decide(plainRequest(), plainFacts()); d.Policy != "a" {
			t.Errorf("got %+v", d)
		}
	}
	if d := NewSet(signerName, nil).Decide(plainRequest(), plainFacts()); !reflect.DeepEqual(d, Decision{}) {
		t.Errorf("an empty set decides %+v", d)
	}
	if d := NewSet("example.com/other", []*Policy{named(t, "a")}).Decide(plainRequest(), plainFacts()); !reflect.DeepEqual(d, Decision{}) {
		t.Errorf("the set of another signerName decides %+v", d)
	}
}

// TestSetDecidesAsDecide decides about random requests with random policies both ways.
func TestSetDecidesAsDecide(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	pick := func(from ...string) []string {
		var picked []string
		for _, v := range from {
			if random.IntN(3) == 0 {
				picked = append(picked, v)
			}
		}
		return picked
	}
	users, groups := []string{"jane", "system:serviceaccount:shop:web"}, []string{"ops", "system:authenticated", "system:serviceaccounts:shop"}
	selectors := []*metav1.LabelSelector{nil, {}, pinned("shop"), pinned("bank"), pinned("shop", "bank"), {MatchLabels: map[string]string{"team": "a"}}, {MatchLabels: map[string]string{"team": "a", "zone": "x"}}}
	for _, operator := range []metav1.LabelSelectorOperator{metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist} {
		for _, key := range []string{corev1.LabelMetadataName, "team", "zone"} {
			r := metav1.LabelSelectorRequirement{Key: key, Operator: operator}
			if operator == metav1.LabelSelectorOpIn || operator == metav1.LabelSelectorOpNotIn {
				r.Values = []string{"shop", "a"}
			}
			selectors = append(selectors, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}},
				&metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}, MatchExpressions: []metav1.LabelSelectorRequirement{r}})
		}
	}
	verdicts := map[Verdict]int{}
	audits := 0
	for range 5000 {
		var policies []*Policy
		for i := range random.IntN(8) {
			policies = append(policies, named(t, fmt.Sprintf("p%d", i), func(s *v1alpha1.CertificatePolicySpec) {
				s.SignerNames = pick(signerName, signerName, "example.com/other")
				s.Requesters = v1alpha1.Requesters{
					Users: pick(users...), Groups: pick(groups...), NamespaceSelector: selectors[random.IntN(len(selectors))], ServiceAccounts: pick("web", "*"),
				}
				s.Allow.DNSNames = pick("a.example.com", "*.example.com")
				s.Mode = []v1alpha1.Mode{"", "Enforce", "Enforce", "Audit"}[random.IntN(4)]
			}))
		}
		req := plainRequest(askDNS(pick("a.example.com", "b.example.com")...), func(r *csr.Request) {
			if random.IntN(3) == 0 {
				r.Requester = csr.Requester{Username: "jane", Groups: pick(groups...)}
			}
		})
		facts := plainFacts(func(f *Facts) {
			switch random.IntN(6) {
			case 0:
				f.Namespace = nil
			case 1:
				f.Namespace.Labels = map[string]string{corev1.LabelMetadataName: "bank"} // says something else than the name
			case 2:
				f.Namespace.Labels = nil
			}
		})
		want, got := Decide(req, facts, policies), NewSet(req.SignerName, policies).Decide(req, facts)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("the set decides %+v, without one it is %+v", got, want)
		}
		verdicts[want.Verdict]++
		audits += len(want.Audits)
	}
	if slices.Min([]int{verdicts[NoOpinion], verdicts[Deny], verdicts[Permit], audits}) < 100 {
		t.Errorf("too few of one kind: %v, %d audits", verdicts, audits)
	}
}
