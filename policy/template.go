// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The placeholders of patterns, documented at v1alpha1.Allow.
const (
	placeholderNamespace      = "namespace"
	placeholderServiceAccount = "serviceAccount"
	placeholderPod            = "pod"
	placeholderHostname       = "hostname"
	placeholderService        = "service"
	placeholderTrustDomain    = "trustDomain"
	placeholderClusterDomain  = "clusterDomain"
)

var placeholders = []string{
	placeholderNamespace, placeholderServiceAccount, placeholderPod, placeholderHostname,
	placeholderService, placeholderTrustDomain, placeholderClusterDomain,
}

// template is a pattern's text, split at its placeholders.
type template struct {
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
func parseTemplate(text string, dns inDNSName) (template, error) {
	t := template{text: text}
	for rest := text; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.parts = append(t.parts, part{literal: rest})
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] == '}' || end < 0 {
			return template{}, fmt.Errorf("a brace without its pair")
		}
		name := rest[open+1 : end]
		if !slices.Contains(placeholders, name) {
			return template{}, fmt.Errorf("unknown placeholder {%s}: known are {%s}", name, strings.Join(placeholders, "}, {"))
		}
		if open > 0 {
			t.parts = append(t.parts, part{literal: rest[:open]})
		}
		t.parts = append(t.parts, part{placeholder: name, label: !isDomain(name) && dns(text[:len(text)-len(rest)+open])})
		rest = rest[end+1:]
	}
	if t.uses(placeholderHostname) && !t.uses(placeholderService) {
		return template{}, fmt.Errorf("{hostname} without {service}: a pod's author chooses its host name freely, so it counts only inside the name of its Service")
	}
	if a, b := t.ambiguous(); a != "" {
		return template{}, fmt.Errorf("{%s} and {%s} can be read in two ways, as in a-b and c or a and b-c: put between them a dot, or outside of DNS names a slash, colon or underscore", a, b)
	}
	return t, nil
}

// isDomain reports whether a placeholder stands for a domain, which is the same for every requester.
func isDomain(placeholder string) bool {
	return placeholder == placeholderTrustDomain || placeholder == placeholderClusterDomain
}

// ambiguous returns two placeholders whose values nothing keeps apart, so that two requesters could come to the same text.
// Names in Kubernetes are of letters, digits and hyphens; those of service accounts and pods may have dots as well.
func (t template) ambiguous() (string, string) {
	before, dot, dotted := "", false, 0
	for _, p := range t.parts {
		switch {
		case p.placeholder == "":
			if strings.Trim(p.literal, labelCharacters+".") != "" {
				before, dotted = "", 0
			}
			dot = dot || strings.Contains(p.literal, ".")
		case !isDomain(p.placeholder):
			if !p.label && (p.placeholder == placeholderServiceAccount || p.placeholder == placeholderPod) {
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

func (t template) uses(placeholder string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.placeholder == placeholder })
}

// values are what the placeholders stand for; one that is missing has no value.
type values map[string]string

// maxServices bounds how many Services may select a pod for {service} to have values. Whoever may create Services could
// otherwise make every decision about her requests as slow as she likes.
const maxServices = 100

// valuesOf returns what the placeholders stand for, once for each Service that selects the pod. Without one, or with more
// than maxServices, there is a single set, without {service}. A value that holds a character with a meaning in patterns or
// names counts as missing; the API server lets none into such names.
func valuesOf(facts Facts, serviceAccount string) []values {
	base := values{
		placeholderTrustDomain:   facts.TrustDomain,
		placeholderClusterDomain: facts.ClusterDomain,
	}
	if facts.Namespace != nil {
		base[placeholderNamespace] = facts.Namespace.Name
		base[placeholderServiceAccount] = serviceAccount
	}
	if facts.Pod == nil {
		return []values{base.sane()}
	}
	base[placeholderPod] = facts.Pod.Name
	if len(facts.Services) == 0 || len(facts.Services) > maxServices {
		return []values{base.sane()}
	}
	sets := make([]values, 0, len(facts.Services))
	for _, service := range facts.Services {
		set := maps.Clone(base)
		set[placeholderService] = service.Name
		if service.Headless && service.Name == facts.Pod.Subdomain {
			set[placeholderHostname] = facts.Pod.Hostname
		}
		sets = append(sets, set.sane())
	}
	return sets
}

func (v values) sane() values {
	maps.DeleteFunc(v, func(_, value string) bool { return value == "" || strings.Trim(value, labelCharacters+"._") != "" })
	return v
}

// expand fills the placeholders in; ok is false if one has no value.
func (t template) expand(v values) (text string, ok bool) {
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

// expandAll expands every template with every set of values, or with one of them where the sets do not differ.
func expandAll(templates []template, sets []values) []string {
	all := make([]string, 0, 2*len(templates))
	for _, t := range templates {
		differing := sets
		if !t.uses(placeholderService) {
			differing = sets[:1]
		}
		for _, set := range differing {
			if text, ok := t.expand(set); ok {
				all = append(all, text)
			}
		}
	}
	return all
}
