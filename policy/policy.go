// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policy decides whether a certificate request is permitted: a parsed request, the facts about who made it and
// compiled policies go in, and a Decision comes out. It has no client, no clock and no I/O, so that what it decides can be
// tried, tested and explained without a cluster. The zero value of its Verdict is the harmless one.
package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// Policy is a compiled CertificatePolicy. It is safe for concurrent use, as it never changes.
type Policy struct {
	// Name of the CertificatePolicy.
	Name string

	signerNames []string
	requesters  requesters
	allow       allow
	approval    v1alpha1.Approval
	maxDuration time.Duration
}

// requesters is the compiled form of v1alpha1.Requesters.
type requesters struct {
	namespaces      labels.Selector
	serviceAccounts []string
	users           []string
	groups          []string
}

// allow is the compiled form of v1alpha1.Allow.
type allow struct {
	dnsNames       []template
	wildcards      bool
	uris           []template
	ipPrefixes     []netip.Prefix
	podIPs         bool
	emailAddresses []template
	commonNames    []template
	subject        []subjectRule
	usages         []certificatesv1.KeyUsage
	keys           []v1alpha1.Key
	isCA           bool
}

// Compile checks all of a CertificatePolicy and turns it into a Policy. The error is a field.ErrorList that names every
// field that is wrong, its value and what is allowed, as an aggregate.
func Compile(p *v1alpha1.CertificatePolicy) (*Policy, error) {
	p = p.DeepCopy()
	c := compiler{}
	spec := field.NewPath("spec")
	compiled := &Policy{
		Name:        p.Name,
		signerNames: p.Spec.SignerNames,
		requesters:  c.requesters(spec.Child("requesters"), p.Spec.Requesters),
		allow:       c.allow(spec.Child("allow"), p.Spec.Allow),
		approval:    c.approval(spec.Child("approval"), p.Spec.Approval),
	}
	if d := p.Spec.Allow.MaxDuration; d != nil {
		if d.Duration <= 0 {
			c.invalid(spec.Child("allow", "maxDuration"), d.Duration.String(), fmt.Errorf("must be more than 0"))
		}
		compiled.maxDuration = d.Duration
	}
	if len(c.errs) > 0 {
		return nil, c.errs.ToAggregate()
	}
	return compiled, nil
}

// SpeaksOf reports whether the policy speaks of this signerName.
func (p *Policy) SpeaksOf(signerName string) bool { return slices.Contains(p.signerNames, signerName) }

// compiler collects what is wrong with a policy.
type compiler struct{ errs field.ErrorList }

func (c *compiler) invalid(path *field.Path, value any, err error) {
	c.errs = append(c.errs, field.Invalid(path, value, err.Error()))
}

func (c *compiler) approval(path *field.Path, approval v1alpha1.Approval) v1alpha1.Approval {
	switch approval {
	case "", v1alpha1.ApprovalAutomatic:
		return v1alpha1.ApprovalAutomatic
	case v1alpha1.ApprovalManual:
		return v1alpha1.ApprovalManual
	}
	c.errs = append(c.errs, field.NotSupported(path, approval, []v1alpha1.Approval{v1alpha1.ApprovalAutomatic, v1alpha1.ApprovalManual}))
	return v1alpha1.ApprovalManual
}

func (c *compiler) requesters(path *field.Path, r v1alpha1.Requesters) requesters {
	compiled := requesters{namespaces: labels.Nothing(), serviceAccounts: r.ServiceAccounts, users: r.Users, groups: r.Groups}
	if r.NamespaceSelector != nil {
		selector, err := metav1.LabelSelectorAsSelector(r.NamespaceSelector)
		if err != nil {
			c.invalid(path.Child("namespaceSelector"), metav1.FormatLabelSelector(r.NamespaceSelector), err)
			return compiled
		}
		compiled.namespaces = selector
	}
	return compiled
}

func (c *compiler) allow(path *field.Path, a v1alpha1.Allow) allow {
	compiled := allow{
		dnsNames:       c.templates(path.Child("dnsNames"), a.DNSNames, always, checkDNSPattern),
		wildcards:      a.Wildcards,
		uris:           c.templates(path.Child("uris"), a.URIs, inHost, checkURIPattern),
		emailAddresses: c.templates(path.Child("emailAddresses"), a.EmailAddresses, inDomain, checkEmailPattern),
		commonNames:    c.templates(path.Child("commonNames"), a.CommonNames, never, nil),
		usages:         a.Usages,
		keys:           a.Keys,
		isCA:           a.IsCA,
	}
	for _, attribute := range subjectAttributes {
		patterns := c.templates(path.Child("subject", attribute.name), attribute.allowed(a.Subject), never, nil)
		compiled.subject = append(compiled.subject, subjectRule{subjectAttribute: attribute, patterns: patterns})
	}
	for i, text := range a.IPAddresses {
		if text == "pod" {
			compiled.podIPs = true
			continue
		}
		prefix, err := parsePrefix(text)
		if err != nil {
			c.invalid(path.Child("ipAddresses").Index(i), text, err)
			continue
		}
		compiled.ipPrefixes = append(compiled.ipPrefixes, prefix)
	}
	for i, usage := range a.Usages {
		if _, _, err := csr.X509Usages([]certificatesv1.KeyUsage{usage}); err != nil {
			c.invalid(path.Child("usages").Index(i), usage, err)
		}
	}
	for i, key := range a.Keys {
		known := []v1alpha1.KeyAlgorithm{v1alpha1.ECDSA, v1alpha1.Ed25519, v1alpha1.RSA}
		if !slices.Contains(known, key.Algorithm) {
			c.errs = append(c.errs, field.NotSupported(path.Child("keys").Index(i).Child("algorithm"), key.Algorithm, known))
		}
	}
	return compiled
}

// templates parses patterns, and checks each with samples in the place of its placeholders.
func (c *compiler) templates(path *field.Path, patterns []string, dns inDNSName, check func(sample string) error) []template {
	samples := values{}
	for _, name := range placeholders {
		samples[name] = "sample"
	}
	var compiled []template
	for i, text := range patterns {
		t, err := parseTemplate(text, dns)
		if err == nil && check != nil {
			sample, _ := t.expand(samples)
			err = check(sample)
		}
		if err != nil {
			c.invalid(path.Index(i), text, err)
			continue
		}
		compiled = append(compiled, t)
	}
	return compiled
}

// parsePrefix reads a CIDR or a single address, refusing what would never match or match more than it seems to.
func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	addr, addrErr := netip.ParseAddr(text)
	if addrErr == nil {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case addr.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("must not have a zone")
	case err != nil:
		return netip.Prefix{}, fmt.Errorf(`must be a CIDR such as 10.0.0.0/8, an address, or "pod"`)
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("must not be an IPv4 address in IPv6 form: write it as IPv4")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("has bits set behind its prefix: write %s", prefix.Masked())
	}
	return prefix, nil
}

func checkDNSPattern(sample string) error {
	labels := strings.Split(sample, ".")
	for i, label := range labels {
		if label == "*" {
			labels[i] = "sample"
		} else if strings.Contains(label, "*") {
			return fmt.Errorf("* must be a whole label, as in *.example.com")
		}
	}
	return csr.CheckDNSName(strings.Join(labels, "."))
}

func checkURIPattern(sample string) error {
	scheme, rest, ok := strings.Cut(sample, "://")
	host, path, _ := strings.Cut(rest, "/")
	if !ok || scheme == "" || host == "" {
		return fmt.Errorf("must start with a scheme and a host, such as spiffe://example.com/")
	}
	if strings.Contains(scheme+host, "*") {
		return fmt.Errorf("* must be a path segment; scheme and host are compared whole")
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if segment == "*" {
			segments[i] = "sample"
		} else if strings.Contains(segment, "*") {
			return fmt.Errorf("* must be a whole path segment, as in spiffe://example.com/*")
		}
	}
	uri := scheme + "://" + host
	if strings.Contains(rest, "/") {
		uri += "/" + strings.Join(segments, "/")
	}
	parsed, err := url.Parse(uri)
	if err != nil || parsed.String() != uri || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" || parsed.User != nil {
		return fmt.Errorf("must be a URI without user, query and fragment, written as short as can be")
	}
	_, err = csr.ParseURI(uri)
	return err
}

func checkEmailPattern(sample string) error {
	local, domain, ok := strings.Cut(sample, "@")
	if !ok || (local != "*" && strings.Contains(local, "*")) || local == "" {
		return fmt.Errorf("must be an address such as ops@example.com, or *@example.com")
	}
	if local == "*" {
		local = "sample"
	}
	return csr.CheckEmailAddress(local + "@" + domain)
}
