// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certwright/certwright/csr"
)

// nameConstraints is the extension that limits the names below a CA (RFC 5280, section 4.2.1.10).
var nameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}

// checkConstraintKinds refuses a CA certificate that limits names of a kind which crypto/x509 knows nothing of, such as directory
// names: other verifiers would hold certificates against that, even where the extension is not critical.
func checkConstraintKinds(cert *x509.Certificate) error {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(nameConstraints) {
			continue
		}
		if kind := unknownConstraint(e.Value); kind != "" {
			return Unusable(ReasonCertificateInvalid, "the name constraints of the CA certificate %s hold %s, which cannot be honoured: only those of DNS names, IP addresses, URIs and email addresses can",
				cert.Subject, kind)
		}
	}
	return nil
}

// unknownConstraint returns a kind of name in the extension that cannot be honoured, or nothing.
func unknownConstraint(der []byte) string {
	input := cryptobyte.String(der)
	var outer cryptobyte.String
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) {
		return "something unreadable"
	}
	for !outer.Empty() { // permittedSubtrees and excludedSubtrees
		var subtrees cryptobyte.String
		var tag cbasn1.Tag
		if !outer.ReadAnyASN1(&subtrees, &tag) {
			return "something unreadable"
		}
		for !subtrees.Empty() {
			var subtree, base cryptobyte.String
			if !subtrees.ReadASN1(&subtree, cbasn1.SEQUENCE) || !subtree.ReadAnyASN1(&base, &tag) {
				return "something unreadable"
			}
			switch tag {
			case cbasn1.Tag(1).ContextSpecific(), cbasn1.Tag(2).ContextSpecific(), cbasn1.Tag(6).ContextSpecific(), cbasn1.Tag(7).ContextSpecific():
			case cbasn1.Tag(4).ContextSpecific().Constructed():
				return "directory names"
			default:
				return fmt.Sprintf("names of kind %d", tag&0x1f)
			}
		}
	}
	return ""
}

// checkConstraints refuses what crypto/x509 would let pass below the name constraints of a CA, but OpenSSL does not: a URI or an email
// address at a host below one that is permitted alone, and a common name that is a host name, where there are no DNS names.
// All other constraints are crypto/x509's to check, once there is a certificate.
func (a *Authority) checkConstraints(req csr.Request) error {
	for _, c := range a.path {
		for _, u := range req.URIs {
			host := u.Hostname()
			if p := c.PermittedURIDomains; len(p) > 0 && !slices.ContainsFunc(p, func(domain string) bool { return hostWithin(host, domain) }) {
				return a.outside(c, "URI", u.String())
			}
		}
		for _, address := range req.EmailAddresses {
			if p := c.PermittedEmailAddresses; len(p) > 0 && !slices.ContainsFunc(p, func(constraint string) bool { return emailWithin(address, constraint) }) {
				return a.outside(c, "email address", address)
			}
		}
		name := strings.ToLower(req.Subject.CommonName)
		if len(req.DNSNames) > 0 || !likeHostName(name) {
			continue
		}
		below := func(domain string) bool { return dnsWithin(name, domain) }
		if p := c.PermittedDNSDomains; len(p) > 0 && !slices.ContainsFunc(p, below) || slices.ContainsFunc(c.ExcludedDNSDomains, below) {
			return a.outside(c, "common name, which counts as a DNS name where there is no other,", req.Subject.CommonName)
		}
	}
	return nil
}

func (a *Authority) outside(by *x509.Certificate, kind, name string) error {
	return permanent("a name constraint of the CA forbids the request: %s %q is not within those of %s%s", kind, name, by.Subject, a.describeConstraints())
}

// hostWithin reports whether a host is one that a constraint of URIs permits: that host, or with a leading period those below it.
func hostWithin(host, constraint string) bool {
	host, constraint = strings.ToLower(host), strings.ToLower(constraint)
	if strings.HasPrefix(constraint, ".") {
		return strings.HasSuffix(host, constraint) && len(host) > len(constraint)
	}
	return host == constraint
}

// emailWithin reports whether an address is one that a constraint permits: a mailbox, all of a host, or all below a domain.
func emailWithin(address, constraint string) bool {
	at := strings.LastIndexByte(address, '@')
	if i := strings.LastIndexByte(constraint, '@'); i >= 0 {
		return at >= 0 && address[:at] == constraint[:i] && strings.EqualFold(address[at:], constraint[i:])
	}
	return at >= 0 && hostWithin(address[at+1:], constraint)
}

// dnsWithin reports whether a DNS name is a domain or below it.
func dnsWithin(name, constraint string) bool {
	constraint = strings.ToLower(constraint)
	if constraint == "" || name == constraint {
		return true
	}
	return strings.HasSuffix(name, "."+strings.TrimPrefix(constraint, "."))
}

// likeHostName reports whether verifiers take a common name for a DNS name: labels of letters, digits, hyphens and underscores,
// more than one.
func likeHostName(name string) bool {
	labels := strings.Split(name, ".")
	if len(labels) < 2 || net.ParseIP(name) != nil {
		return false
	}
	return !slices.ContainsFunc(labels, func(label string) bool {
		return label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || label[0] == '-' || label[len(label)-1] == '-'
	})
}

// describeConstraints lists the subtrees of all certificates above the leaf.
func (a *Authority) describeConstraints() string {
	var b strings.Builder
	list := func(kind string, values []string) {
		if len(values) > 0 {
			fmt.Fprintf(&b, "; %s: %s", kind, strings.Join(values, ", "))
		}
	}
	for _, c := range a.path {
		list("permitted DNS domains", c.PermittedDNSDomains)
		list("excluded DNS domains", c.ExcludedDNSDomains)
		list("permitted URI domains", c.PermittedURIDomains)
		list("excluded URI domains", c.ExcludedURIDomains)
		list("permitted IP ranges", ranges(c.PermittedIPRanges))
		list("excluded IP ranges", ranges(c.ExcludedIPRanges))
		list("permitted email addresses", c.PermittedEmailAddresses)
		list("excluded email addresses", c.ExcludedEmailAddresses)
	}
	return b.String()
}

func ranges(networks []*net.IPNet) (texts []string) {
	for _, n := range networks {
		texts = append(texts, n.String())
	}
	return texts
}
