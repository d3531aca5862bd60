// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// sanKinds are the choices of GeneralName (RFC 5280 section 4.2.1.6) by tag number.
var sanKinds = []string{"otherName", "rfc822Name", "dNSName", "x400Address", "directoryName", "ediPartyName", "uniformResourceIdentifier", "iPAddress", "registeredID"}

// parseSubjectAltName reads all names, in their order. Names that are there twice are kept twice.
func (r *Request) parseSubjectAltName(value cryptobyte.String) error {
	const field = "spec.request.subjectAltName"
	var names cryptobyte.String
	if !value.ReadASN1(&names, cbasn1.SEQUENCE) || !value.Empty() || names.Empty() {
		return malformed(field, "is not a list of names")
	}
	for i := 0; !names.Empty(); i++ {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return malformed(field, "holds something that is no name")
		}
		if err := r.addName(tag, string(name)); err != nil {
			return at(fmt.Sprintf("%s[%d]", field, i), err)
		}
	}
	return nil
}

func (r *Request) addName(tag cbasn1.Tag, value string) error {
	context := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	switch tag {
	case context(1):
		if err := CheckEmailAddress(value); err != nil {
			return err
		}
		r.EmailAddresses = append(r.EmailAddresses, value)
	case context(2):
		if err := CheckDNSName(value); err != nil {
			return err
		}
		r.DNSNames = append(r.DNSNames, value)
	case context(6):
		uri, err := ParseURI(value)
		if err != nil {
			return err
		}
		r.URIs = append(r.URIs, uri)
	case context(7):
		addr, err := parseIPAddress([]byte(value))
		if err != nil {
			return err
		}
		r.IPAddresses = append(r.IPAddresses, addr)
	default:
		kind := fmt.Sprintf("of the ASN.1 tag %#x", uint8(tag))
		if n := int(tag & 0x1f); n < len(sanKinds) && tag&0xc0 == 0x80 {
			kind = sanKinds[n]
		}
		return refuse(ReasonSANKind, "", "is a name of the kind %s; only dNSName, iPAddress, uniformResourceIdentifier and rfc822Name are allowed", kind)
	}
	return nil
}

// parseIPAddress reads an iPAddress.
func parseIPAddress(value []byte) (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(value)
	if !ok {
		return addr, refuse(ReasonIPAddressLength, "", "is an IP address of %d bytes; it must have 4 or 16", len(value))
	}
	return addr, CheckIPAddress(addr)
}

// CheckIPAddress returns nil for an address that a certificate may hold. An IPv4 address in IPv6 form would escape rules about IPv4
// ranges, and nobody can own the unspecified address or a multicast one. The error is a *Refusal without a Field.
func CheckIPAddress(addr netip.Addr) error {
	switch {
	case addr.Is4In6():
		return refuse(ReasonIPAddressMapped, "", "is the IPv4 address %s in IPv6 form; it must be in IPv4 form", addr.Unmap())
	case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return refuse(ReasonIPAddressUnusable, "", "is the IP address %s; it must be the address of one host", addr)
	}
	return nil
}

// CheckEmailAddress returns nil for an addr-spec as it is mostly written, name@example.com: a dot-atom of RFC 5322 in ASCII,
// of at most 64 bytes, before a DNS name as CheckDNSName wants it, without a wildcard. Quoted names, comments, display
// names and address literals are refused. The error is a *Refusal without a Field.
func CheckEmailAddress(address string) error {
	bad := func(what string) error {
		return refuse(ReasonEmail, "", "%s %s; it must be an address such as ops@example.com", quote(address), what)
	}
	local, domain, ok := strings.Cut(address, "@")
	if !ok || local == "" || len(local) > 64 {
		return bad("is no email address with 1 to 64 bytes before the @")
	}
	for _, atom := range strings.Split(local, ".") {
		if atom == "" {
			return bad("has a dot at an end of its local part, or two in a row")
		}
		if !isOf(atom, alphanumeric+"!#$%&'*+-/=?^_`{|}~") {
			return bad("has a character in its local part that needs quoting")
		}
	}
	if strings.HasPrefix(domain, "*") {
		return bad("has a wildcard for a domain")
	}
	if err := CheckDNSName(domain); err != nil {
		return bad("has a domain that is not allowed: " + err.Error())
	}
	return nil
}
