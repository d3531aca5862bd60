// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package limits bounds what a Signer signs, whoever approved and whatever policy permits: the last word that those who write Signers have
// over those who write policies. It is pure: a request in, what is granted or exceeded out.
package limits

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// Limits is the compiled form of v1alpha1.Limits: what a Signer signs at the most.
type Limits struct {
	maxDuration  time.Duration
	usages       []certificatesv1.KeyUsage
	isCA         bool
	dnsDomains   []string
	uriDomains   []string
	emailDomains []string
	ipRanges     []netip.Prefix
	boundIPs     bool
}

// defaultMaxDuration holds where the API server's default did not.
const defaultMaxDuration = 24 * time.Hour

// Compile checks limits, which are at the path, beyond what the API's schema does. The list names every field that is wrong.
func Compile(l v1alpha1.Limits, path *field.Path) (Limits, field.ErrorList) {
	compiled := Limits{
		maxDuration:  l.MaxDuration.Duration,
		usages:       l.Usages,
		isCA:         l.IsCA,
		dnsDomains:   l.PermittedDNSDomains,
		uriDomains:   l.PermittedURIDomains,
		emailDomains: l.PermittedEmailDomains,
		boundIPs:     len(l.PermittedIPRanges) > 0,
	}
	var errs field.ErrorList
	if compiled.maxDuration == 0 {
		compiled.maxDuration = defaultMaxDuration
	}
	if compiled.maxDuration < 0 {
		errs = append(errs, field.Invalid(path.Child("maxDuration"), compiled.maxDuration.String(), "must be more than 0"))
	}
	for i, usage := range l.Usages {
		if _, _, err := csr.X509Usages([]certificatesv1.KeyUsage{usage}); err != nil {
			errs = append(errs, field.Invalid(path.Child("usages").Index(i), usage, err.Error()))
		}
	}
	errs = append(errs, checkDomains(l.PermittedDNSDomains, path.Child("permittedDNSDomains"))...)
	errs = append(errs, checkDomains(l.PermittedURIDomains, path.Child("permittedURIDomains"))...)
	errs = append(errs, checkDomains(l.PermittedEmailDomains, path.Child("permittedEmailDomains"))...)
	for i, text := range l.PermittedIPRanges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, field.Invalid(path.Child("permittedIPRanges").Index(i), text, "must be a CIDR such as 10.0.0.0/8"))
		}
		compiled.ipRanges = append(compiled.ipRanges, prefix)
	}
	return compiled, errs
}

func checkDomains(domains []string, path *field.Path) (errs field.ErrorList) {
	for i, domain := range domains {
		err := csr.CheckDNSName(domain)
		if err == nil && strings.HasPrefix(domain, "*.") {
			err = fmt.Errorf("must not have a wildcard: write %s", domain[2:])
		}
		if err != nil {
			errs = append(errs, field.Invalid(path.Index(i), domain, err.Error()))
		}
	}
	return errs
}

// MaxDuration is the longest lifetime that the Signer grants.
func (l Limits) MaxDuration() time.Duration { return l.maxDuration }

// Apply returns the request with the lifetime that is granted: what was asked for, at most what policy and limits allow.
// exceeded names everything in the request that the limits forbid, and is empty if nothing is.
func (l Limits) Apply(req csr.Request, policyMax time.Duration) (granted csr.Request, exceeded string) {
	var all []string
	add := func(field string, value any, allowed string) {
		all = append(all, fmt.Sprintf("%s: %v (allowed: %s)", field, value, allowed))
	}
	if req.IsCA && !l.isCA {
		add("isCA", true, "false")
	}
	for _, usage := range req.Usages {
		if !slices.Contains(l.usages, usage) {
			add("usages", usage, fmt.Sprintf("%q", l.usages))
		}
	}
	if !req.IsCA && unrestricted(req.Usages) && !slices.Contains(l.usages, certificatesv1.UsageAny) {
		add("usages", fmt.Sprintf("%q", req.Usages), `with an extended usage such as "client auth", as without one a certificate is good for every purpose; or "any" in the limits`)
	}
	if cn := strings.ToLower(req.Subject.CommonName); strings.Contains(cn, ".") && csr.CheckDNSName(cn) == nil && !within(strings.TrimPrefix(cn, "*."), l.dnsDomains) {
		add("commonName", cn, fmt.Sprintf("no DNS name, or one within %q", l.dnsDomains)) // some verifiers read it as a DNS name
	}
	for _, name := range req.DNSNames {
		if !within(strings.TrimPrefix(name, "*."), l.dnsDomains) {
			add("dnsNames", name, fmt.Sprintf("within %q", l.dnsDomains))
		}
	}
	for _, uri := range req.URIs {
		if !uriWithin(uri, l.uriDomains) {
			add("uris", uri, fmt.Sprintf("within %q", l.uriDomains))
		}
	}
	for _, address := range req.EmailAddresses {
		_, domain, _ := strings.Cut(address, "@")
		if len(l.emailDomains) > 0 && !containsFold(l.emailDomains, domain) {
			add("emailAddresses", address, fmt.Sprintf("at %q", l.emailDomains))
		}
	}
	for _, addr := range req.IPAddresses {
		if l.boundIPs && !slices.ContainsFunc(l.ipRanges, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			add("ipAddresses", addr, fmt.Sprintf("within %v", l.ipRanges))
		}
	}
	return req.WithDuration(l.duration(req.Duration, policyMax)), strings.Join(all, "; ")
}

// unrestricted reports whether the usages make a certificate without the extension extendedKeyUsage, which limits it to
// purposes (RFC 5280, section 4.2.1.12). To ask for fewer usages would then be to get more.
func unrestricted(usages []certificatesv1.KeyUsage) bool {
	_, extended, err := csr.X509Usages(usages)
	return err != nil || len(extended) == 0
}

// duration returns the lifetime to sign: the one asked for, or the longest there is if none was.
func (l Limits) duration(asked, policyMax time.Duration) time.Duration {
	longest := l.maxDuration
	if policyMax > 0 {
		longest = min(longest, policyMax)
	}
	if asked == 0 {
		return longest
	}
	return min(asked, longest)
}

// within reports whether a name is one of the domains or below one, as for name constraints (RFC 5280, section 4.2.1.10).
// No domains are no bound.
func within(name string, domains []string) bool {
	name = strings.ToLower(name)
	return len(domains) == 0 || slices.ContainsFunc(domains, func(domain string) bool {
		domain = strings.ToLower(domain)
		return name == domain || strings.HasSuffix(name, "."+domain)
	})
}

// uriWithin is within for the host of a URI; a SPIFFE trust domain has no domains below it and is compared whole.
func uriWithin(uri *url.URL, domains []string) bool {
	if uri.Scheme == "spiffe" {
		return len(domains) == 0 || containsFold(domains, uri.Host)
	}
	return within(uri.Hostname(), domains)
}

func containsFold(all []string, one string) bool {
	return slices.ContainsFunc(all, func(s string) bool { return strings.EqualFold(s, one) })
}
