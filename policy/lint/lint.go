// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lint finds what looks wrong in CertificatePolicies that compile: patterns that can never match, policies that others
// make needless, grants that are wider than they seem, and bounds that are missing. It looks at structure only and prefers
// silence to a guess, but for grants: there it prefers to ask.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
)

// IgnoreAnnotation of a CertificatePolicy holds the IDs of findings that are as they should be, separated by commas.
const IgnoreAnnotation = "certwright.dev/lint-ignore"

// Severity says how much a finding matters.
type Severity string

const (
	// Info is for what may well be meant.
	Info Severity = "info"
	// Warning is for what somebody should look at.
	Warning Severity = "warning"
	// Error is for what is hardly ever meant.
	Error Severity = "error"
)

// severities are all there are, from the least.
var severities = []Severity{Info, Warning, Error}

// AtLeast reports whether a severity reaches another.
func (s Severity) AtLeast(other Severity) bool {
	return slices.Index(severities, s) >= slices.Index(severities, other)
}

// Policy is a policy to look at.
type Policy struct {
	Object *v1alpha1.CertificatePolicy
	// File that the policy stands in, or a name for where it comes from.
	File string
	// Line of a field in that file; nil if there are no lines.
	Line func(path string) int
}

// Finding is one thing that looks wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	// ID of this kind of finding, for IgnoreAnnotation.
	ID     string `json:"id"`
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Policy string `json:"policy"`
	// Path of the field in the CertificatePolicy.
	Path string `json:"path"`
	// Message says what looks wrong.
	Message string `json:"message"`
	// Advice says what to do.
	Advice string `json:"advice"`
}

// Lint returns what looks wrong in policies that are in force together, in the order of the policies and of their lines.
func Lint(policies []Policy) []Finding {
	var all []Finding
	for i, p := range policies {
		l := linter{spec: &p.Object.Spec}
		l.selection()
		l.dead()
		l.subsumed()
		l.grants()
		l.names()
		l.bounds()
		l.shadowed(i, policies)
		all = append(all, p.place(p.ignore(l.findings))...)
	}
	return all
}

// linter looks at one policy.
type linter struct {
	spec     *v1alpha1.CertificatePolicySpec
	findings []Finding
}

func (l *linter) find(s Severity, id, path, advice, message string, args ...any) {
	l.findings = append(l.findings, Finding{Severity: s, ID: id, Path: path, Message: fmt.Sprintf(message, args...), Advice: advice})
}

// place says where the findings are, and puts them in order.
func (p Policy) place(findings []Finding) []Finding {
	for i := range findings {
		f := &findings[i]
		f.File, f.Policy = p.File, p.Object.Name
		if p.Line != nil {
			f.Line = p.Line(f.Path)
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return findings
}

// ignore takes away the findings that the policy's annotation names. What it names in vain is a finding itself, so that it is
// taken away before it hides something new.
func (p Policy) ignore(findings []Finding) []Finding {
	text, ok := p.Object.Annotations[IgnoreAnnotation]
	if !ok {
		return findings
	}
	for id := range strings.SplitSeq(text, ",") {
		id = strings.TrimSpace(id)
		before := len(findings)
		findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.ID == id && id != ignoresNothing })
		if len(findings) == before {
			findings = append(findings, Finding{
				Severity: Warning, ID: ignoresNothing, Path: "metadata.annotations[" + IgnoreAnnotation + "]",
				Message: fmt.Sprintf("there is no finding %q to ignore", id), Advice: "take it out of the annotation",
			})
		}
	}
	return findings
}

const ignoresNothing = "ignores-nothing"

// field is a list of patterns in a policy.
type field struct {
	path     string
	kind     kind
	patterns []string
}

// fields are all lists of patterns with placeholders.
func (l *linter) fields() []field {
	a, s := &l.spec.Allow, &l.spec.Allow.Subject
	return []field{
		{"spec.allow.dnsNames", dnsName, a.DNSNames},
		{"spec.allow.uris", uri, a.URIs},
		{"spec.allow.emailAddresses", email, a.EmailAddresses},
		{"spec.allow.commonNames", text, a.CommonNames},
		{"spec.allow.subject.organizations", text, s.Organizations},
		{"spec.allow.subject.organizationalUnits", text, s.OrganizationalUnits},
		{"spec.allow.subject.countries", text, s.Countries},
		{"spec.allow.subject.provinces", text, s.Provinces},
		{"spec.allow.subject.localities", text, s.Localities},
		{"spec.allow.subject.streetAddresses", text, s.StreetAddresses},
		{"spec.allow.subject.postalCodes", text, s.PostalCodes},
		{"spec.allow.subject.serialNumbers", text, s.SerialNumbers},
	}
}

// identities are the fields that others know the holder of a certificate by.
func (l *linter) identities() []field { return l.fields()[:4] }

func at(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
