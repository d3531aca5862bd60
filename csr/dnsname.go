// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// Limits of a DNS name in its textual form without the final dot (RFC 1035 section 2.3.4).
const (
	maxDNSName  = 253
	maxDNSLabel = 63

	lowerLetters    = "abcdefghijklmnopqrstuvwxyz"
	digits          = "0123456789"
	alphanumeric    = lowerLetters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits
	labelCharacters = lowerLetters + digits + "-"
)

// isOf reports whether text holds nothing but the characters.
func isOf(text, characters string) bool { return strings.Trim(text, characters) == "" }

// CheckDNSName returns nil for a DNS name that a certificate may hold and that nothing reads in two ways: labels of
// lower-case letters, digits and inner hyphens (RFC 1123 section 2.1), at most 253 bytes together, without a final dot.
//
//   - Upper case is refused, although DNS ignores case: a rule that compares strings must not be escaped by writing a name
//     differently. Kubernetes allows only lower case in names of its own.
//   - A wildcard is the whole first label before at least two others. Clients ignore it elsewhere, or right below the top
//     level, where it would cover a whole domain such as "*.local".
//   - A name that ends in a number may be read as an IPv4 address (WHATWG URL, "ends in a number"), so none is accepted.
//   - Hyphens in the third and fourth place are for punycode, which must decode and encode to itself (RFC 5891 section 5.4).
//
// The error is a *Refusal without a Field.
func CheckDNSName(name string) error {
	bad := func(reason, what string) error { return refuse(reason, "", "DNS name %s %s", quote(name), what) }
	if name == "" || len(name) > maxDNSName {
		return bad(ReasonDNSNameLength, "is empty or too long; 1 to 253 bytes are allowed")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return bad(ReasonDNSNameIsIP, "is an IP address; ask for it as iPAddress")
	}
	if strings.HasSuffix(name, ".") {
		return bad(ReasonDNSNameTrailingDot, "ends with a dot; leave the dot out")
	}
	host, wildcard := strings.CutPrefix(name, "*.")
	labels := strings.Split(host, ".")
	if strings.Contains(host, "*") || wildcard && len(labels) < 2 {
		return bad(ReasonDNSNameWildcard, "has a wildcard in the wrong place; * must be the whole first label, before at least two others")
	}
	punycode := false
	for _, label := range labels {
		if err := checkDNSLabel(label, bad); err != nil {
			return err
		}
		punycode = punycode || strings.HasPrefix(label, "xn--")
	}
	if isNumber(labels[len(labels)-1]) {
		return bad(ReasonDNSNameIsIP, "ends with a number, as an IP address does; its last label must be a word")
	}
	if punycode && !isPunycode(host) {
		return bad(ReasonDNSNamePunycode, "has a label in punycode that is not valid; it must be what IDNA 2008 (RFC 5891) makes of a name")
	}
	return nil
}

func checkDNSLabel(label string, bad func(reason, what string) error) error {
	switch {
	case label == "":
		return bad(ReasonDNSNameEmptyLabel, "has an empty label; labels have 1 to 63 bytes")
	case len(label) > maxDNSLabel:
		return bad(ReasonDNSNameLength, "has a label that is too long; labels have 1 to 63 bytes")
	}
	switch {
	case !isOf(label, labelCharacters):
		return bad(ReasonDNSNameCharacter, "has a character that is not allowed; labels are of lower-case letters, digits and hyphens, in ASCII")
	case strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-"):
		return bad(ReasonDNSNameHyphen, "has a hyphen at an end of a label; labels begin and end with a letter or digit")
	case len(label) >= 4 && label[2:4] == "--" && !strings.HasPrefix(label, "xn--"):
		return bad(ReasonDNSNameHyphen, "has hyphens in the third and fourth place of a label; they are for punycode labels, xn--")
	}
	return nil
}

// isNumber reports whether an IPv4 parser could take the label for a number.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return isOf(hex, digits+"abcdef")
	}
	return isOf(label, digits)
}

// isPunycode reports whether all labels in punycode are what IDNA makes of a name: idna decodes, checks and encodes them.
func isPunycode(host string) bool {
	again, err := idna.Registration.ToASCII(host)
	return err == nil && again == host
}
