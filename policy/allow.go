// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/pattern"
)

// allow is the compiled form of v1alpha1.Allow.
type allow struct {
	dnsNames       []pattern.Template
	wildcards      bool
	uris           []pattern.Template
	ipAddresses    []ipRule
	emailAddresses []pattern.Template
	commonNames    []pattern.Template
	subject        []subjectRule
	usages         []certificatesv1.KeyUsage
	keys           []v1alpha1.Key
	isCA           bool
	maxDuration    time.Duration
}

// ipRule allows the addresses of the requester's pod, or those in prefix.
type ipRule struct {
	pod    bool
	prefix netip.Prefix
}

func (c *compiler) allow(path *field.Path, a v1alpha1.Allow) allow {
	compiled := allow{
		dnsNames:       c.templates(path.Child("dnsNames"), a.DNSNames, pattern.ParseDNSName),
		wildcards:      a.Wildcards,
		uris:           c.templates(path.Child("uris"), a.URIs, pattern.ParseURI),
		emailAddresses: c.templates(path.Child("emailAddresses"), a.EmailAddresses, pattern.ParseEmail),
		commonNames:    c.templates(path.Child("commonNames"), a.CommonNames, pattern.ParseText),
		usages:         a.Usages,
		keys:           a.Keys,
		isCA:           a.IsCA,
	}
	for _, attribute := range subjectAttributes {
		patterns := c.templates(path.Child("subject", attribute.name), attribute.allowed(a.Subject), pattern.ParseText)
		compiled.subject = append(compiled.subject, subjectRule{attribute, "subject." + attribute.name, patterns})
	}
	for i, text := range a.IPAddresses {
		rule := ipRule{pod: text == "pod"}
		if !rule.pod {
			var err error
			if rule.prefix, err = parsePrefix(text); err != nil {
				c.invalid(path.Child("ipAddresses").Index(i), text, err)
			}
		}
		compiled.ipAddresses = append(compiled.ipAddresses, rule)
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
	if a.MaxDuration != nil {
		if compiled.maxDuration = a.MaxDuration.Duration; compiled.maxDuration <= 0 {
			c.invalid(path.Child("maxDuration"), compiled.maxDuration.String(), fmt.Errorf("must be more than 0"))
		}
	}
	return compiled
}

func (c *compiler) templates(path *field.Path, patterns []string, parse func(string) (pattern.Template, error)) []pattern.Template {
	var compiled []pattern.Template
	for i, text := range patterns {
		t, err := parse(text)
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
