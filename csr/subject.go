// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	subjectField = "spec.request.subject"
	// maxCommonName is ub-common-name of RFC 5280 appendix A.1, in characters.
	maxCommonName = 64
)

// subjectAttribute is an attribute of a distinguished name that pkix.Name has a field for.
type subjectAttribute struct {
	oid  asn1.ObjectIdentifier
	name string
	// add puts a value into the name, and reports false if there is room for one value only and it is taken.
	add func(n *pkix.Name, value string) bool
	// single attributes are left out of a certificate when empty, so an empty value would be lost.
	single bool
}

var subjectAttributes = []subjectAttribute{
	{asn1.ObjectIdentifier{2, 5, 4, 3}, "CN", func(n *pkix.Name, v string) bool { return setOnce(&n.CommonName, v) }, true},
	{asn1.ObjectIdentifier{2, 5, 4, 5}, "serialNumber", func(n *pkix.Name, v string) bool { return setOnce(&n.SerialNumber, v) }, true},
	{asn1.ObjectIdentifier{2, 5, 4, 6}, "C", func(n *pkix.Name, v string) bool { return appendTo(&n.Country, v) }, false},
	{asn1.ObjectIdentifier{2, 5, 4, 7}, "L", func(n *pkix.Name, v string) bool { return appendTo(&n.Locality, v) }, false},
	{asn1.ObjectIdentifier{2, 5, 4, 8}, "ST", func(n *pkix.Name, v string) bool { return appendTo(&n.Province, v) }, false},
	{asn1.ObjectIdentifier{2, 5, 4, 9}, "street", func(n *pkix.Name, v string) bool { return appendTo(&n.StreetAddress, v) }, false},
	{asn1.ObjectIdentifier{2, 5, 4, 10}, "O", func(n *pkix.Name, v string) bool { return appendTo(&n.Organization, v) }, false},
	{asn1.ObjectIdentifier{2, 5, 4, 11}, "OU", func(n *pkix.Name, v string) bool { return appendTo(&n.OrganizationalUnit, v) }, false},
	{asn1.ObjectIdentifier{2, 5, 4, 17}, "postalCode", func(n *pkix.Name, v string) bool { return appendTo(&n.PostalCode, v) }, false},
}

func setOnce(field *string, value string) bool {
	if *field != "" {
		return false
	}
	*field = value
	return true
}

func appendTo(field *[]string, value string) bool {
	*field = append(*field, value)
	return true
}

// parseSubject reads the contents of a Name (RFC 5280 section 4.1.2.4). Every value is kept, the order of values of one
// attribute too; the order of attributes is not, and has no meaning that a verifier relies on.
//
// An RDN of several values is how crypto/x509 writes two values of the same attribute, and is read back. One that mixes
// attributes is refused, because pkix.Name would write it as several RDNs, which is another name.
func parseSubject(rdns cryptobyte.String) (pkix.Name, error) {
	var name pkix.Name
	for !rdns.Empty() {
		var rdn cryptobyte.String
		if !rdns.ReadASN1(&rdn, cbasn1.SET) || rdn.Empty() {
			return name, malformed(subjectField, "holds something that is no set of attributes")
		}
		var first *subjectAttribute
		var before cryptobyte.String
		for !rdn.Empty() {
			var element cryptobyte.String
			if !rdn.ReadASN1Element(&element, cbasn1.SEQUENCE) || bytes.Compare(before, element) > 0 {
				return name, malformed(subjectField, "holds a set that is not in order")
			}
			before = element
			attribute, value, err := parseSubjectValue(element)
			if err != nil {
				return name, err
			}
			if first != nil && attribute != first {
				return name, refuse(ReasonSubjectMultiValued, subjectField, "joins %s and %s in one RDN; each must have its own", first.name, attribute.name)
			}
			first = attribute
			if !attribute.add(&name, value) {
				return name, refuse(ReasonSubjectRepeated, subjectField, "holds a second %s, %s; one is allowed", attribute.name, quote(value))
			}
		}
	}
	return name, nil
}

// parseSubjectValue reads an AttributeTypeAndValue.
func parseSubjectValue(element cryptobyte.String) (*subjectAttribute, string, error) {
	var pair, value cryptobyte.String
	var oid asn1.ObjectIdentifier
	var tag cbasn1.Tag
	if !element.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&oid) || !pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
		return nil, "", malformed(subjectField, "holds something that is no attribute")
	}
	var attribute *subjectAttribute
	for i := range subjectAttributes {
		if subjectAttributes[i].oid.Equal(oid) {
			attribute = &subjectAttributes[i]
		}
	}
	if attribute == nil {
		return nil, "", refuse(ReasonSubjectAttribute, subjectField, "holds the attribute %s; only C, ST, L, street, postalCode, O, OU, CN and serialNumber are allowed", quote(oid.String()))
	}
	text := string(value)
	switch tag {
	case cbasn1.UTF8String:
		if !printable(text) {
			return nil, "", refuse(ReasonSubjectText, subjectField, "%s is %s; it must be UTF-8 of letters, marks, digits, punctuation, symbols and plain spaces", attribute.name, quote(text))
		}
	case cbasn1.PrintableString:
		if !isOf(text, alphanumeric+" '()+,-./:=?") {
			return nil, "", refuse(ReasonSubjectText, subjectField, "%s is %s; a PrintableString must be of letters, digits and '()+,-./:=? and spaces", attribute.name, quote(text))
		}
	default:
		return nil, "", refuse(ReasonSubjectStringType, subjectField, "%s is a string of ASN.1 type %d; it must be a UTF8String or PrintableString", attribute.name, tag)
	}
	if attribute.single && text == "" {
		return nil, "", refuse(ReasonSubjectEmpty, subjectField, "%s is empty; leave it out or give it a value", attribute.name)
	}
	if attribute.name == "CN" && utf8.RuneCountInString(text) > maxCommonName {
		return nil, "", refuse(ReasonCommonNameLength, subjectField, "CN is %s; at most %d characters are allowed (RFC 5280)", quote(text), maxCommonName)
	}
	return attribute, text, nil
}

// printable reports whether s is valid UTF-8 that shows what it holds: no control characters, no invisible ones, none that
// turn the direction of writing, and of all spaces only the ASCII one.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
