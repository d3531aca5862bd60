// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/certwright/certwright/api/v1alpha1"
)

// shadowed finds a policy that another one makes needless. Of two that allow the same, the later one is.
func (l *linter) shadowed(i int, policies []Policy) {
	if l.spec.Mode == v1alpha1.ModeAudit {
		return
	}
	for j, other := range policies {
		wide := &other.Object.Spec
		if j == i || wide.Mode == v1alpha1.ModeAudit || !allows(wide, l.spec) || i < j && allows(l.spec, wide) {
			continue
		}
		l.find(Warning, "shadowed", "spec.allow", "remove this policy, or make the other one narrower",
			"policy %q allows all that this policy allows, to all whom it selects", other.Object.Name)
		return
	}
}

// allows reports whether policy wide certainly permits, at least as long and without a person where narrow needs none, all that
// narrow permits.
func allows(wide, narrow *v1alpha1.CertificatePolicySpec) bool {
	return coveredBy(wide.SignerNames, narrow.SignerNames, same) &&
		selects(&wide.Requesters, &narrow.Requesters) &&
		coveredBy(conditions(narrow), conditions(wide), same) &&
		coveredBy(expressions(narrow), expressions(wide), same) &&
		coveredBy(narrow.Quotas, wide.Quotas, same) &&
		(wide.Approval == narrow.Approval || wide.Approval == v1alpha1.ApprovalAutomatic) &&
		allowsNames(&wide.Allow, &narrow.Allow) && allowsRest(&wide.Allow, &narrow.Allow)
}

func conditions(s *v1alpha1.CertificatePolicySpec) []string {
	var all []string
	for _, c := range s.MatchConditions {
		all = append(all, c.Expression)
	}
	return all
}

func expressions(s *v1alpha1.CertificatePolicySpec) []string {
	var all []string
	for _, v := range s.Validations {
		all = append(all, v.Expression)
	}
	return all
}

// selects reports whether wide certainly selects all whom narrow selects.
func selects(wide, narrow *v1alpha1.Requesters) bool {
	if slices.Contains(wide.Groups, user.AllAuthenticated) {
		return true
	}
	if !coveredBy(wide.Users, narrow.Users, same) || !coveredBy(wide.Groups, narrow.Groups, same) {
		return false
	}
	return narrow.NamespaceSelector == nil || wide.NamespaceSelector != nil &&
		selectsLabels(wide.NamespaceSelector, narrow.NamespaceSelector) &&
		coveredBy(wide.ServiceAccounts, narrow.ServiceAccounts, text.covers) &&
		(wide.PodSelector == nil || narrow.PodSelector != nil && selectsLabels(wide.PodSelector, narrow.PodSelector))
}

// selectsLabels reports whether all that wide requires narrow requires too.
func selectsLabels(wide, narrow *metav1.LabelSelector) bool {
	w, err := metav1.LabelSelectorAsSelector(wide)
	if err != nil {
		return false
	}
	n, err := metav1.LabelSelectorAsSelector(narrow)
	if err != nil {
		return false
	}
	required, _ := w.Requirements()
	given, _ := n.Requirements()
	for _, r := range required {
		found := false
		for _, g := range given {
			found = found || g.String() == r.String()
		}
		if !found {
			return false
		}
	}
	return true
}

func allowsNames(wide, narrow *v1alpha1.Allow) bool {
	w := linter{spec: &v1alpha1.CertificatePolicySpec{Allow: *wide}}
	n := linter{spec: &v1alpha1.CertificatePolicySpec{Allow: *narrow}}
	given := n.fields()
	for i, f := range w.fields() {
		if !coveredBy(f.patterns, given[i].patterns, f.kind.covers) {
			return false
		}
	}
	return coveredBy(wide.IPAddresses, narrow.IPAddresses, coversAddress)
}

func allowsRest(wide, narrow *v1alpha1.Allow) bool {
	key := func(w, n v1alpha1.Key) bool { return w.Algorithm == n.Algorithm && w.MinSize <= n.MinSize }
	longer := wide.MaxDuration == nil || narrow.MaxDuration != nil && wide.MaxDuration.Duration >= narrow.MaxDuration.Duration
	return longer && (wide.Wildcards || !narrow.Wildcards) && (wide.IsCA || !narrow.IsCA) &&
		coveredBy(wide.Usages, narrow.Usages, same) && coveredBy(wide.Keys, narrow.Keys, key)
}
