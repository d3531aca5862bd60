// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// selects reports whether the policy speaks of this request at all: by its signerName and by who made it.
func (p *Policy) selects(req csr.Request, facts Facts) bool {
	if !p.SpeaksOf(req.SignerName) {
		return false
	}
	r := p.requesters
	if slices.Contains(r.users, req.Requester.Username) || req.Requester.InGroup(r.groups) {
		return true
	}
	namespace, name, ok := req.Requester.ServiceAccount()
	if !ok || facts.Namespace == nil || facts.Namespace.Name != namespace {
		return false
	}
	return r.namespaces.Matches(labels.Set(facts.Namespace.Labels)) &&
		slices.ContainsFunc(r.serviceAccounts, func(pattern string) bool { return matchGlob(pattern, name) })
}

// violations returns all that the policy does not allow of a request that it selects. The sets are the values of placeholders.
func (p *Policy) violations(req csr.Request, facts Facts, sets []values) []Violation {
	c := &check{facts: facts}
	if facts.PodProblem != "" {
		c.add("requester", facts.PodProblem, strconv.Quote(req.Requester.Username))
	}
	c.names("commonNames", nonEmpty(req.Subject.CommonName), p.allow.commonNames, sets, matchGlob)
	for _, rule := range p.allow.subject {
		c.names("subject."+rule.name, nonEmpty(rule.requested(req.Subject)...), rule.patterns, sets, matchGlob)
	}
	c.names("dnsNames", req.DNSNames, p.allow.dnsNames, sets, func(pattern, name string) bool {
		return matchDNSName(pattern, name, p.allow.wildcards)
	})
	c.uris(req.URIs, p.allow.uris, sets)
	c.ipAddresses(req.IPAddresses, p.allow)
	c.names("emailAddresses", req.EmailAddresses, p.allow.emailAddresses, sets, matchEmail)
	c.usages(req.Usages, p.allow.usages)
	c.key(req.Key, p.allow.keys)
	if req.IsCA && !p.allow.isCA {
		c.add("isCA", "allowed: false", "true")
	}
	return c.violations
}

// check collects the violations of one policy.
type check struct {
	facts      Facts
	violations []Violation
}

func (c *check) add(field, allowed string, values ...string) {
	c.violations = append(c.violations, Violation{Field: field, Values: values, Allowed: allowed})
}

// names checks that each value matches a pattern.
func (c *check) names(field string, requested []string, patterns []template, sets []values, match func(pattern, value string) bool) {
	if len(requested) == 0 {
		return
	}
	expanded := expandAll(patterns, sets)
	var refused []string
	for _, value := range requested {
		if !slices.ContainsFunc(expanded, func(pattern string) bool { return match(pattern, value) }) {
			refused = append(refused, strconv.Quote(value))
		}
	}
	if len(refused) > 0 {
		c.add(field, c.allowedNames(patterns, sets), refused...)
	}
}

func (c *check) uris(requested []*url.URL, patterns []template, sets []values) {
	if len(requested) == 0 {
		return
	}
	parsed := make(map[string]*url.URL, len(requested))
	texts := make([]string, 0, len(requested))
	for _, uri := range requested {
		text := uri.String()
		parsed[text] = uri
		texts = append(texts, text)
	}
	c.names("uris", texts, patterns, sets, func(pattern, text string) bool { return matchURI(pattern, parsed[text]) })
}

func (c *check) ipAddresses(requested []netip.Addr, allow allow) {
	var own []netip.Addr
	if allow.podIPs && c.facts.Pod != nil {
		own = c.facts.Pod.IPs
	}
	var refused []string
	for _, addr := range requested {
		if !slices.Contains(own, addr) && !slices.ContainsFunc(allow.ipPrefixes, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			refused = append(refused, addr.String())
		}
	}
	if len(refused) == 0 {
		return
	}
	var allowed []string
	switch {
	case allow.podIPs && len(own) == 0:
		allowed = append(allowed, "the pod's own, but the requester has no pod with an address of its own")
	case allow.podIPs:
		allowed = append(allowed, fmt.Sprintf("the pod's own %v", own))
	}
	for _, prefix := range allow.ipPrefixes {
		allowed = append(allowed, prefix.String())
	}
	c.add("ipAddresses", allowedList(allowed), refused...)
}

func (c *check) usages(requested, allowed []certificatesv1.KeyUsage) {
	var refused, quoted []string
	for _, usage := range requested {
		if !slices.Contains(allowed, usage) {
			refused = append(refused, strconv.Quote(string(usage)))
		}
	}
	if len(refused) == 0 {
		return
	}
	for _, usage := range allowed {
		quoted = append(quoted, strconv.Quote(string(usage)))
	}
	c.add("usages", allowedList(quoted), refused...)
}

func (c *check) key(key csr.Key, allowed []v1alpha1.Key) {
	kinds := make([]string, 0, len(allowed))
	for _, k := range allowed {
		if string(k.Algorithm) == key.Algorithm && key.Size >= k.MinSize {
			return
		}
		kind := string(k.Algorithm)
		if k.MinSize > 0 {
			kind += fmt.Sprintf(" of at least %d bits", k.MinSize)
		}
		kinds = append(kinds, kind)
	}
	c.add("keys", allowedList(kinds), fmt.Sprintf("%s of %d bits", key.Algorithm, key.Size))
}

// allowedNames says in words what a list of patterns allows this requester: first what it may ask for, then the patterns
// that mean nothing to it, with the reason behind those that share it.
func (c *check) allowedNames(patterns []template, sets []values) string {
	var expanded, reasons []string
	without := map[string][]string{}
	for _, t := range patterns {
		texts := expandAll([]template{t}, sets)
		for _, text := range texts {
			expanded = append(expanded, strconv.Quote(text))
		}
		if len(texts) > 0 {
			continue
		}
		reason := c.missing(t)
		if len(without[reason]) == 0 {
			reasons = append(reasons, reason)
		}
		without[reason] = append(without[reason], strconv.Quote(t.text))
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
func (c *check) missing(t template) string {
	switch {
	case c.facts.Namespace == nil:
		return "the requester is no service account"
	case c.facts.PodProblem != "" && (t.uses(placeholderService) || t.uses(placeholderPod)):
		return "the requester's pod does not count"
	case c.facts.Pod == nil && (t.uses(placeholderService) || t.uses(placeholderPod)):
		return "the requester's token is bound to no pod"
	case t.uses(placeholderService) && len(c.facts.Services) == 0:
		return "no Service selects the requester's pod"
	case t.uses(placeholderService) && len(c.facts.Services) > maxServices:
		return fmt.Sprintf("more than %d Services select the requester's pod", maxServices)
	case t.uses(placeholderHostname):
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
	if strings.Join(all, "") == "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool { return v == "" })
}

// subjectAttribute is one attribute of a subject's distinguished name besides the common name.
type subjectAttribute struct {
	name      string
	requested func(pkix.Name) []string
	allowed   func(v1alpha1.Subject) []string
}

// subjectRule is the patterns for one attribute.
type subjectRule struct {
	subjectAttribute
	patterns []template
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
