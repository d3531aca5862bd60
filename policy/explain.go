// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// Evaluation is all that one policy has to say about a request.
type Evaluation struct {
	Policy      string
	Mode        v1alpha1.Mode
	Approval    v1alpha1.Approval
	MaxDuration time.Duration

	// Selected is true if the policy speaks of the request.
	Selected bool
	// Permitted is true if it permits all of it.
	Permitted bool
	// Selection holds the checks that make it speak of the request or not.
	Selection []Check
	// Rules hold the checks of what the request asks for. Empty unless the request is selected.
	Rules []Check
}

// Check is one thing that a policy looks at.
type Check struct {
	// Path of the field in the CertificatePolicy, such as "spec.allow.dnsNames" or "spec.validations[0]".
	Path string
	// Passed is true if the check stands in the way of nothing. Of users, groups and service accounts, one is enough.
	Passed bool
	// Asked are the values of the request that it was about, quoted where they are text.
	Asked []string
	// Message says why it passed, or what would have to change.
	Message string
	// Used are the paths of the single rules that matched something, such as "spec.allow.dnsNames[1]".
	Used []string
}

// Explain asks each of the policies about a request, as Decide does, and returns all that they looked at.
func Explain(req csr.Request, facts Facts, policies []*Policy) []Evaluation {
	q := newInquiry(req, facts)
	all := make([]Evaluation, 0, len(policies))
	for _, p := range policies {
		e := Evaluation{Policy: p.Name, Mode: p.mode, Approval: p.approval, MaxDuration: p.allow.maxDuration}
		var violations []Violation
		e.Selected, violations = p.evaluate(&q, &e)
		e.Permitted = e.Selected && len(violations) == 0
		all = append(all, e)
	}
	return all
}

// Rules returns the paths of all single rules of the policy, as they are in Check.Used.
func (p *Policy) Rules() []string {
	const requesters, allow = "spec.requesters.", "spec.allow."
	var paths []string
	entries := func(path string, n int) {
		for i := range n {
			paths = append(paths, index(path, i))
		}
	}
	flag := func(path string, set bool) {
		if set {
			paths = append(paths, path)
		}
	}
	entries("spec.signerNames", len(p.signerNames))
	entries(requesters+"users", len(p.requesters.users))
	entries(requesters+"groups", len(p.requesters.groups))
	flag(requesters+"namespaceSelector", p.requesters.namespaces != nil)
	entries(requesters+"serviceAccounts", len(p.requesters.serviceAccounts))
	flag(requesters+"podSelector", p.requesters.pods != nil)
	entries("spec.matchConditions", len(p.matchConditions))

	entries(allow+"commonNames", len(p.allow.commonNames))
	for _, rule := range p.allow.subject {
		entries(allow+rule.field, len(rule.patterns))
	}
	entries(allow+"dnsNames", len(p.allow.dnsNames))
	flag(allow+"wildcards", p.allow.wildcards)
	entries(allow+"uris", len(p.allow.uris))
	entries(allow+"ipAddresses", len(p.allow.ipAddresses))
	entries(allow+"emailAddresses", len(p.allow.emailAddresses))
	entries(allow+"usages", len(p.allow.usages))
	entries(allow+"keys", len(p.allow.keys))
	flag(allow+"isCA", p.allow.isCA)
	flag(allow+"maxDuration", p.allow.maxDuration != 0)
	entries("spec.validations", len(p.validations))
	return paths
}
