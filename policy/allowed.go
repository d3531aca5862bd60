// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/x509/pkix"
	"fmt"
	"strconv"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy/pattern"
)

// allowedNames says in words what a list of patterns allows this requester: first what it may ask for, then the patterns
// that mean nothing to it, with the reason behind those that share it.
func (e *evaluation) allowedNames(field string, patterns []pattern.Template) string {
	expanded := make([]string, 0, 2*len(patterns))
	var reasons []string
	without := map[string][]string{}
	for _, t := range patterns {
		if x := e.expand(field, t); len(x.texts) > 0 {
			expanded = append(expanded, x.quoted...)
			continue
		}
		reason := e.missing(t)
		if len(without[reason]) == 0 {
			reasons = append(reasons, reason)
		}
		without[reason] = append(without[reason], strconv.Quote(t.String()))
	}
	var parts []string
	if len(expanded) > 0 {
		parts = append(parts, list(expanded))
	}
	for _, reason := range reasons {
		parts = append(parts, list(without[reason])+", but "+reason)
	}
	if len(parts) == 0 {
		return allowedList(nil)
	}
	return "allowed: " + strings.Join(parts, "; ")
}

// missing says why a pattern has no expansion for this requester.
func (e *evaluation) missing(t pattern.Template) string {
	switch {
	case e.facts.Namespace == nil:
		return "the requester is no service account"
	case e.facts.PodProblem != "" && (t.Uses(pattern.Service) || t.Uses(pattern.Pod)):
		return "the requester's pod does not count"
	case e.facts.Pod == nil && (t.Uses(pattern.Service) || t.Uses(pattern.Pod)):
		return "the requester's token is bound to no pod"
	case t.Uses(pattern.Service) && len(e.facts.Services) == 0:
		return "no Service selects the requester's pod"
	case t.Uses(pattern.Service) && len(e.facts.Services) > maxServices:
		return fmt.Sprintf("more than %d Services select the requester's pod", maxServices)
	case t.Uses(pattern.Hostname):
		return "no headless Service is the subdomain of the requester's pod"
	default:
		return "a placeholder has no value that is one DNS label"
	}
}

func allowedList(allowed []string) string {
	if len(allowed) == 0 {
		return "the policy allows none"
	}
	return "allowed: " + list(allowed)
}

// nonEmpty leaves out empty values, which claim nothing; Istio's requests have an empty organization.
func nonEmpty(all ...string) []string {
	var some []string
	for _, v := range all {
		if v != "" {
			some = append(some, v)
		}
	}
	return some
}

// subjectAttribute is one attribute of a subject's distinguished name besides the common name.
type subjectAttribute struct {
	name      string
	requested func(pkix.Name) []string
	allowed   func(v1alpha1.Subject) []string
}

// subjectRule is the patterns for one attribute, and its field in spec.allow.
type subjectRule struct {
	subjectAttribute
	field    string
	patterns []pattern.Template
}

var subjectAttributes = []subjectAttribute{
	{"organizations", func(n pkix.Name) []string { return n.Organization }, func(s v1alpha1.Subject) []string { return s.Organizations }},
	{"organizationalUnits", func(n pkix.Name) []string { return n.OrganizationalUnit }, func(s v1alpha1.Subject) []string { return s.OrganizationalUnits }},
	{"countries", func(n pkix.Name) []string { return n.Country }, func(s v1alpha1.Subject) []string { return s.Countries }},
	{"provinces", func(n pkix.Name) []string { return n.Province }, func(s v1alpha1.Subject) []string { return s.Provinces }},
	{"localities", func(n pkix.Name) []string { return n.Locality }, func(s v1alpha1.Subject) []string { return s.Localities }},
	{"streetAddresses", func(n pkix.Name) []string { return n.StreetAddress }, func(s v1alpha1.Subject) []string { return s.StreetAddresses }},
	{"postalCodes", func(n pkix.Name) []string { return n.PostalCode }, func(s v1alpha1.Subject) []string { return s.PostalCodes }},
	{"serialNumbers", func(n pkix.Name) []string { return []string{n.SerialNumber} }, func(s v1alpha1.Subject) []string { return s.SerialNumbers }},
}
