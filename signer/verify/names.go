// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certwright/certwright/csr"
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Tags of the kinds of names that a request can ask for (GeneralName in RFC 5280, section 4.2.1.6).
const (
	tagEmail = cbasn1.Tag(0x80 | 1)
	tagDNS   = cbasn1.Tag(0x80 | 2)
	tagURI   = cbasn1.Tag(0x80 | 6)
	tagIP    = cbasn1.Tag(0x80 | 7)
)

// verifyNames checks that the leaf has the names that were requested, all of them and no others.
func verifyNames(leaf *x509.Certificate, req csr.Request) error {
	names, err := altNames(leaf)
	if err != nil {
		return err
	}
	var ips, uris []string
	for _, addr := range req.IPAddresses {
		ips = append(ips, addr.String())
	}
	for _, uri := range req.URIs {
		uris = append(uris, uri.String())
	}
	for _, kind := range []struct {
		name      string
		got, want []string
	}{
		{"DNS names", lower(names[tagDNS]), lower(req.DNSNames)},
		{"IP addresses", names[tagIP], ips},
		{"URIs", names[tagURI], uris},
		{"email addresses", names[tagEmail], req.EmailAddresses},
	} {
		if !slices.Equal(slices.Compact(sorted(kind.got)), slices.Compact(sorted(kind.want))) {
			return fmt.Errorf("the leaf's %s are %q, requested were %q", kind.name, kind.got, kind.want)
		}
	}
	return verifySubject(leaf, req)
}

// verifySubject checks that the leaf has the subject that was requested. Every attribute counts, as of two common names each verifier takes
// another; their order does not, nor do those without a value, as in the requests of Istio's sidecars, which say nothing. Public CAs may put
// one of the DNS names into the common name, and may leave out a common name that is one: neither says more than the alternative
// names do (CA/Browser Forum baseline requirements, section 7.1.4.3).
func verifySubject(leaf *x509.Certificate, req csr.Request) error {
	requested := slices.Concat(req.Subject.ToRDNSequence()...)
	names, got := commonNames(leaf.Subject.Names)
	_, want := commonNames(requested)
	if !slices.Equal(sorted(attributes(got)), sorted(attributes(want))) || !verifyCommonName(names, req) {
		return fmt.Errorf("the leaf's subject is %q, requested was %q", strings.Join(attributes(leaf.Subject.Names), ","), strings.Join(attributes(requested), ","))
	}
	return nil
}

func verifyCommonName(names []string, req csr.Request) bool {
	asked, dns := req.Subject.CommonName, lower(req.DNSNames)
	isDNSName := func(name string) bool { return slices.Contains(dns, strings.ToLower(name)) }
	free := asked == "" || isDNSName(asked)
	switch len(names) {
	case 0:
		return free
	case 1:
		return names[0] == asked || free && isDNSName(names[0])
	}
	return false
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// commonNames returns the common names among the attributes of a subject, and the others. Those without a value are left out.
func commonNames(all []pkix.AttributeTypeAndValue) (names []string, rest []pkix.AttributeTypeAndValue) {
	for _, a := range all {
		switch text, ok := a.Value.(string); {
		case ok && text == "":
		case ok && a.Type.Equal(oidCommonName):
			names = append(names, text)
		default:
			rest = append(rest, a)
		}
	}
	return names, rest
}

// altNames reads the leaf's names from the bytes of their extension: crypto/x509 passes over kinds that it does not know,
// such as the otherName that some directories log users on with, and does not keep URIs as they were written.
func altNames(leaf *x509.Certificate) (map[cbasn1.Tag][]string, error) {
	found := map[cbasn1.Tag][]string{}
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		value := cryptobyte.String(e.Value)
		var names cryptobyte.String
		if !value.ReadASN1(&names, cbasn1.SEQUENCE) || !value.Empty() {
			return nil, errors.New("the leaf's subject alternative names are not encoded as RFC 5280 says")
		}
		for !names.Empty() {
			var name cryptobyte.String
			var tag cbasn1.Tag
			if !names.ReadAnyASN1(&name, &tag) {
				return nil, errors.New("the leaf's subject alternative names are not encoded as RFC 5280 says")
			}
			text := string(name)
			switch tag {
			case tagDNS, tagURI, tagEmail:
			case tagIP:
				addr, ok := netip.AddrFromSlice(name)
				if !ok {
					return nil, fmt.Errorf("the leaf has an IP address of %d bytes", len(name))
				}
				text = addr.String()
			default:
				return nil, fmt.Errorf("the leaf has a subject alternative name of a kind that cannot be requested: ASN.1 tag %#x", uint8(tag))
			}
			found[tag] = append(found[tag], text)
		}
	}
	return found, nil
}

// attributes writes each attribute of a distinguished name as RFC 2253 does.
func attributes(all []pkix.AttributeTypeAndValue) []string {
	texts := make([]string, 0, len(all))
	for _, a := range all {
		texts = append(texts, pkix.RDNSequence{{a}}.String())
	}
	return texts
}

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return all
}

// lower returns DNS names in lower case: a CA may write them otherwise, and they are the same names.
func lower(names []string) []string {
	folded := make([]string, 0, len(names))
	for _, n := range names {
		folded = append(folded, strings.ToLower(n))
	}
	return folded
}
