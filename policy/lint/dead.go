// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/certwright/certwright/api/v1alpha1"
)

// selection finds policies that select nobody, and selectors that nothing can match.
func (l *linter) selection() {
	r := &l.spec.Requesters
	if len(r.Users)+len(r.Groups) == 0 && r.NamespaceSelector == nil {
		l.find(Error, "selects-nobody", "spec.requesters", "say who may ask: namespaceSelector with serviceAccounts, users or groups",
			"the policy selects nobody")
	}
	for _, s := range []struct {
		path     string
		selector *metav1.LabelSelector
	}{{"spec.requesters.namespaceSelector", r.NamespaceSelector}, {"spec.requesters.podSelector", r.PodSelector}} {
		if key := contradiction(s.selector); key != "" {
			l.find(Error, "dead-selector", s.path, "correct the selector", "no labels match: what it wants of label %q excludes itself", key)
		}
	}
}

// contradiction returns a label of which a selector wants two things that cannot both be; empty if it finds none.
func contradiction(s *metav1.LabelSelector) string {
	if s == nil {
		return ""
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case selection.In, selection.Equals:
			// A label has one value: if none of these satisfies all requirements about the label, none does.
			if !slices.ContainsFunc(r.ValuesUnsorted(), func(value string) bool { return satisfies(requirements, r.Key(), labels.Set{r.Key(): value}) }) {
				return r.Key()
			}
		case selection.DoesNotExist:
			if !satisfies(requirements, r.Key(), labels.Set{}) {
				return r.Key()
			}
		}
	}
	return ""
}

func satisfies(requirements labels.Requirements, key string, set labels.Set) bool {
	for _, r := range requirements {
		if r.Key() == key && !r.Matches(set) {
			return false
		}
	}
	return true
}

// mayBeServiceAccount reports whether any requester can be a service account.
func mayBeServiceAccount(r *v1alpha1.Requesters) bool {
	isAccount := func(name string) bool { _, _, err := serviceaccount.SplitUsername(name); return err == nil }
	all := []string{user.AllAuthenticated, serviceaccount.AllServiceAccountsGroup}
	hasAccounts := func(group string) bool {
		return slices.Contains(all, group) || strings.HasPrefix(group, serviceaccount.ServiceAccountGroupPrefix)
	}
	return r.NamespaceSelector != nil || slices.ContainsFunc(r.Users, isAccount) || slices.ContainsFunc(r.Groups, hasAccounts)
}

// dead finds what can never match, and policies that can never permit.
func (l *linter) dead() {
	a := &l.spec.Allow
	if !mayBeServiceAccount(&l.spec.Requesters) && len(l.spec.Requesters.Users)+len(l.spec.Requesters.Groups) > 0 {
		const advice = "write the name in full, or select service accounts with namespaceSelector and serviceAccounts"
		for _, f := range l.fields() {
			for i, text := range f.patterns {
				if uses(text, aboutRequester...) {
					l.find(Error, "dead-pattern", at(f.path, i), advice, "%q matches nothing: its placeholders have values for service accounts only, and the policy selects none", text)
				}
			}
		}
		if i := slices.Index(a.IPAddresses, "pod"); i >= 0 {
			l.find(Error, "dead-pattern", at("spec.allow.ipAddresses", i), advice, "%q matches nothing: only service accounts have pods, and the policy selects none", "pod")
		}
	}
	if a.Wildcards && !slices.ContainsFunc(a.DNSNames, startsWithWildcard) {
		l.find(Warning, "dead-pattern", "spec.allow.wildcards", "leave wildcards out, or start a pattern with *.",
			"allows no wildcard name: no pattern in dnsNames starts with the label *")
	}
	if len(a.Usages) == 0 {
		l.find(Error, "permits-nothing", "spec.allow", "list the usages that certificates may have", "the policy permits nothing: every request asks for a usage, and it allows none")
	}
	if len(a.Keys) == 0 {
		l.find(Error, "permits-nothing", "spec.allow.keys", "list kinds of keys, or leave keys out for the default", "the policy permits nothing: every request has a key, and it allows none")
	}
}

func startsWithWildcard(text string) bool { return text == "*" || strings.HasPrefix(text, "*.") }

// subsumed finds entries that another entry of the same list makes needless.
func (l *linter) subsumed() {
	for _, f := range l.fields() {
		l.needless(f.path, f.patterns, f.kind.covers)
	}
	l.needless("spec.allow.ipAddresses", l.spec.Allow.IPAddresses, coversAddress)
	l.needless("spec.requesters.serviceAccounts", l.spec.Requesters.ServiceAccounts, text.covers)
}

func (l *linter) needless(path string, entries []string, covers func(wide, narrow string) bool) {
	for i, narrow := range entries {
		for j, wide := range entries {
			// Of two that allow the same, as 10.0.0.1 and 10.0.0.1/32, the later one is needless.
			if i != j && covers(wide, narrow) && (j < i || !covers(narrow, wide)) {
				l.find(Warning, "subsumed", at(path, i), "remove one of the two", "%q adds nothing: %q allows all that it allows", narrow, wide)
				break
			}
		}
	}
}
