// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pattern has the patterns that CertificatePolicies allow names by: texts with placeholders for facts about the
// requester, and the rules by which a name that is asked for matches one. It knows nothing of policies, and compares no more
// loosely than those who later rely on a certificate.
package pattern

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The placeholders of patterns, documented at v1alpha1.Allow.
const (
	Namespace      = "namespace"
	ServiceAccount = "serviceAccount"
	Pod            = "pod"
	Hostname       = "hostname"
	Service        = "service"
	TrustDomain    = "trustDomain"
	ClusterDomain  = "clusterDomain"
)

var placeholders = []string{
	Namespace, ServiceAccount, Pod, Hostname,
	Service, TrustDomain, ClusterDomain,
}

// Template is a pattern's text, split at its placeholders.
type Template struct {
	text  string
	parts []part
}

// part is literal text or the name of a placeholder.
type part struct {
	literal     string
	placeholder string
	// label is true for a placeholder inside a DNS name whose value must be one label: a service account may be named "a.b",
	// and must not reach a name that its pattern leaves to others.
	label bool
}

// inDNSName reports whether what follows this beginning of a pattern is part of a DNS name.
type inDNSName func(before string) bool

func always(string) bool { return true }
func never(string) bool  { return false }

// inHost is the inDNSName of URIs.
func inHost(before string) bool {
	_, rest, ok := strings.Cut(before, "://")
	return ok && !strings.Contains(rest, "/")
}

// inDomain is the inDNSName of email addresses.
func inDomain(before string) bool { return strings.Contains(before, "@") }

// parseTemplate splits text at its placeholders, and refuses those that do not exist or that a requester could shift
// letters between.
func parseTemplate(text string, dns inDNSName) (Template, error) {
	t := Template{text: text}
	for rest := text; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.parts = append(t.parts, part{literal: rest})
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] == '}' || end < 0 {
			return Template{}, fmt.Errorf("a brace without its pair")
		}
		name := rest[open+1 : end]
		if !slices.Contains(placeholders, name) {
			return Template{}, fmt.Errorf("unknown placeholder {%s}: known are {%s}", name, strings.Join(placeholders, "}, {"))
		}
		if open > 0 {
			t.parts = append(t.parts, part{literal: rest[:open]})
		}
		t.parts = append(t.parts, part{placeholder: name, label: !isDomain(name) && dns(text[:len(text)-len(rest)+open])})
		rest = rest[end+1:]
	}
	if t.Uses(Hostname) && !t.Uses(Service) {
		return Template{}, fmt.Errorf("{hostname} without {service}: a pod's author chooses its host name freely, so it counts only inside the name of its Service")
	}
	if a, b := t.ambiguous(); a != "" {
		return Template{}, fmt.Errorf("{%s} and {%s} can be read in two ways, as in a-b and c or a and b-c: put between them a dot, or outside of DNS names a slash, colon or underscore", a, b)
	}
	return t, nil
}

// isDomain reports whether a placeholder stands for a domain, which is the same for every requester.
func isDomain(placeholder string) bool {
	return placeholder == TrustDomain || placeholder == ClusterDomain
}

// ambiguous returns two placeholders whose values nothing keeps apart, so that two requesters could come to the same text.
// Names in Kubernetes are of letters, digits and hyphens; those of service accounts and pods may have dots as well.
func (t Template) ambiguous() (string, string) {
	var before string
	var dot bool
	var dotted int
	for _, p := range t.parts {
		switch {
		case p.placeholder == "":
			if strings.Trim(p.literal, labelCharacters+".") != "" {
				before, dotted = "", 0
			}
			dot = dot || strings.Contains(p.literal, ".")
		case !isDomain(p.placeholder):
			if !p.label && (p.placeholder == ServiceAccount || p.placeholder == Pod) {
				dotted++
			}
			if before != "" && (!dot || dotted > 1) {
				return before, p.placeholder
			}
			before, dot = p.placeholder, false
		}
	}
	return "", ""
}

const labelCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// Uses reports whether the pattern has this placeholder.
func (t Template) Uses(placeholder string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.placeholder == placeholder })
}

// Values are what the placeholders stand for; one that is missing has no value.
type Values map[string]string

// Sane takes away values that hold a character with a meaning in patterns or names, and empty ones; the API server lets none
// into the names of objects.
func (v Values) Sane() Values {
	maps.DeleteFunc(v, func(_, value string) bool { return value == "" || strings.Trim(value, labelCharacters+"._") != "" })
	return v
}

// expand fills the placeholders in; ok is false if one has no value.
func (t Template) expand(v Values) (text string, ok bool) {
	if len(t.parts) == 1 && t.parts[0].placeholder == "" {
		return t.parts[0].literal, true
	}
	var b strings.Builder
	b.Grow(2 * len(t.text))
	for _, p := range t.parts {
		if p.placeholder == "" {
			b.WriteString(p.literal)
			continue
		}
		value, ok := v[p.placeholder]
		if !ok || p.label && strings.Contains(value, ".") {
			return "", false
		}
		b.WriteString(value)
	}
	return b.String(), true
}

// Expand fills the placeholders in with every set of values, or with the first where the sets do not differ for it. Sets differ
// in Service and Hostname only.
func (t Template) Expand(sets []Values) []string {
	if !t.Uses(Service) {
		sets = sets[:min(1, len(sets))]
	}
	all := make([]string, 0, len(sets))
	for _, set := range sets {
		if text, ok := t.expand(set); ok {
			all = append(all, text)
		}
	}
	return all
}

// String returns the text that was parsed.
func (t Template) String() string { return t.text }
