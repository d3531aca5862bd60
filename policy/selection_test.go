// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

func TestSelection(t *testing.T) {
	all := &metav1.LabelSelector{}
	teamA := &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}
	notTeamA := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "team", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}},
	}}
	noNamespace := func(f *Facts) { f.Namespace = nil }
	noPod := func(f *Facts) { f.Pod, f.Services = nil, nil }
	user := func(name string, groups ...string) csr.Requester {
		return csr.Requester{Username: name, Groups: groups}
	}
	web := serviceAccount("shop", "web")

	for name, c := range map[string]struct {
		requesters v1alpha1.Requesters
		requester  csr.Requester
		facts      func(*Facts)
		want       bool
	}{
		"nobody by default":                     {v1alpha1.Requesters{}, web, nil, false},
		"selector without service accounts":     {v1alpha1.Requesters{NamespaceSelector: all}, web, nil, false},
		"service accounts without selector":     {v1alpha1.Requesters{ServiceAccounts: []string{"*"}}, web, nil, false},
		"every service account":                 {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*"}}, web, nil, true},
		"labels that the namespace has":         {v1alpha1.Requesters{NamespaceSelector: teamA, ServiceAccounts: []string{"*"}}, web, nil, true},
		"labels that the namespace has not":     {v1alpha1.Requesters{NamespaceSelector: notTeamA, ServiceAccounts: []string{"*"}}, web, nil, false},
		"labels of a namespace without any":     {v1alpha1.Requesters{NamespaceSelector: teamA, ServiceAccounts: []string{"*"}}, web, func(f *Facts) { f.Namespace.Labels = nil }, false},
		"name in full":                          {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"web"}}, web, nil, true},
		"name is a prefix only":                 {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"we"}}, web, nil, false},
		"name is longer":                        {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"web2"}}, web, nil, false},
		"another case":                          {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"Web"}}, web, nil, false},
		"glob":                                  {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"x", "w*"}}, web, nil, true},
		"glob that stands for nothing":          {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*web*"}}, web, nil, true},
		"glob that does not match":              {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*-web"}}, web, nil, false},
		"glob over a dotted name":               {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"a*z"}}, serviceAccount("shop", "a.b.z"), nil, true},
		"namespace is gone":                     {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*"}}, web, noNamespace, false},
		"facts of another namespace":            {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*"}}, web, func(f *Facts) { f.Namespace.Name = "bank" }, false},
		"without a pod":                         {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*"}}, web, noPod, true},
		"user is no service account":            {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*"}}, user("web"), nil, false},
		"user with half a service account":      {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*"}}, user("system:serviceaccount:shop"), nil, false},
		"user with more than a service account": {v1alpha1.Requesters{NamespaceSelector: all, ServiceAccounts: []string{"*"}}, user("system:serviceaccount:shop:web:x"), nil, false},
		"user":                                  {v1alpha1.Requesters{Users: []string{"ops", "jane"}}, user("jane"), noNamespace, true},
		"user in part":                          {v1alpha1.Requesters{Users: []string{"jane"}}, user("jane2"), noNamespace, false},
		"user in another case":                  {v1alpha1.Requesters{Users: []string{"jane"}}, user("Jane"), noNamespace, false},
		"no globs for users":                    {v1alpha1.Requesters{Users: []string{"*"}}, user("jane"), noNamespace, false},
		"service account named as a user":       {v1alpha1.Requesters{Users: []string{"system:serviceaccount:shop:web"}}, web, nil, true},
		"service account by its bare name":      {v1alpha1.Requesters{Users: []string{"web"}}, web, nil, false},
		"group":                                 {v1alpha1.Requesters{Groups: []string{"x", "admins"}}, user("jane", "users", "admins"), noNamespace, true},
		"no group in common":                    {v1alpha1.Requesters{Groups: []string{"admins"}}, user("jane", "users"), noNamespace, false},
		"no globs for groups":                   {v1alpha1.Requesters{Groups: []string{"*"}}, user("jane", "users"), noNamespace, false},
		"group is not a user":                   {v1alpha1.Requesters{Groups: []string{"jane"}}, user("jane"), noNamespace, false},
		"user is not a group":                   {v1alpha1.Requesters{Users: []string{"admins"}}, user("jane", "admins"), noNamespace, false},
		"group of service accounts":             {v1alpha1.Requesters{Groups: []string{"system:serviceaccounts:shop"}}, web, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustCompile(t, plainPolicy(func(s *v1alpha1.CertificatePolicySpec) { s.Requesters = c.requesters }))
			facts := plainFacts()
			if c.facts != nil {
				c.facts(&facts)
			}
			req := plainRequest(func(r *csr.Request) { r.Requester = c.requester })
			want := NoOpinion
			if c.want {
				want = Permit
			}
			if d := Decide(req, facts, []*Policy{p}); d.Verdict != want {
				t.Errorf("got %v, want %v", d.Verdict, want)
			}
		})
	}
}

func TestPodSelector(t *testing.T) {
	all := &metav1.LabelSelector{}
	front := &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "front"}}
	notFront := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"front"}}}}
	noPod := func(f *Facts) { f.Pod, f.Services = nil, nil }
	gone := func(f *Facts) { f.Pod, f.PodProblem = nil, "pod shop/web-0 is gone" }
	for name, c := range map[string]struct {
		pods    *metav1.LabelSelector
		account string
		facts   func(*Facts)
		want    Verdict
	}{
		"labels that the pod has":                {front, "web", nil, Permit},
		"labels that the pod has not":            {notFront, "web", nil, NoOpinion},
		"labels of a pod without any":            {front, "web", func(f *Facts) { f.Pod.Labels = nil }, NoOpinion},
		"no such label on a pod without any":     {notFront, "web", func(f *Facts) { f.Pod.Labels = nil }, Permit},
		"annotations are not labels":             {front, "web", func(f *Facts) { f.Pod.Labels, f.Pod.Annotations = nil, map[string]string{"tier": "front"} }, NoOpinion},
		"every pod":                              {all, "web", nil, Permit},
		"every pod, but there is none":           {all, "web", noPod, NoOpinion},
		"no such label, but there is no pod":     {notFront, "web", noPod, NoOpinion},
		"no selector and no pod":                 {nil, "web", noPod, Permit},
		"pod is gone":                            {front, "web", gone, Deny},
		"pod is gone, another account":           {front, "api", gone, NoOpinion},
		"pod is gone, no selector":               {nil, "web", gone, Deny},
		"pod is gone, another namespace's facts": {front, "web", func(f *Facts) { gone(f); f.Namespace.Name = "bank" }, NoOpinion},
		"another account":                        {front, "api", nil, NoOpinion},
	} {
		t.Run(name, func(t *testing.T) {
			p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) {
				s.Requesters.ServiceAccounts, s.Requesters.PodSelector = []string{c.account}, c.pods
			})
			facts := plainFacts(func(f *Facts) { f.Pod.Labels = map[string]string{"tier": "front"} })
			if c.facts != nil {
				c.facts(&facts)
			}
			if d := Decide(plainRequest(), facts, []*Policy{p}); d.Verdict != c.want {
				t.Errorf("got %v: %s", d.Verdict, d.Message())
			}
		})
	}
	t.Run("users and groups need no pod", func(t *testing.T) {
		for _, change := range []func(*v1alpha1.Requesters){
			func(r *v1alpha1.Requesters) { r.Users = []string{"jane"} },
			func(r *v1alpha1.Requesters) { r.Groups = []string{"ops"} },
		} {
			p := named(t, "p", func(s *v1alpha1.CertificatePolicySpec) { s.Requesters.PodSelector = front; change(&s.Requesters) })
			req := plainRequest(func(r *csr.Request) { r.Requester = csr.Requester{Username: "jane", Groups: []string{"ops"}} })
			if d := Decide(req, Facts{}, []*Policy{p}); d.Verdict != Permit {
				t.Errorf("got %v: %s", d.Verdict, d.Message())
			}
		}
	})
}

func TestSelectionBySignerName(t *testing.T) {
	p := mustCompile(t, plainPolicy(func(s *v1alpha1.CertificatePolicySpec) {
		s.SignerNames = []string{"example.com/one", "example.com/two"}
	}))
	for name, want := range map[string]Verdict{
		"example.com/one":   Permit,
		"example.com/two":   Permit,
		"example.com/three": NoOpinion,
		"example.com/on":    NoOpinion,
		"example.com/one/":  NoOpinion,
		"Example.com/one":   NoOpinion,
		"":                  NoOpinion,
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(plainRequest(func(r *csr.Request) { r.SignerName = name }), plainFacts(), []*Policy{p})
			if d.Verdict != want {
				t.Errorf("got %v, want %v", d.Verdict, want)
			}
		})
	}
}
