// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// pkcs10 is a CertificationRequest (RFC 2986 section 4), split into its parts. Each part is a whole DER element unless it
// says otherwise, and the parts together are every byte of the request but tags and lengths.
type pkcs10 struct {
	// signed is the CertificationRequestInfo, which the signature covers.
	signed    cryptobyte.String
	publicKey cryptobyte.String
	// subject and attributes are the contents of a sequence and a set.
	subject            cryptobyte.String
	attributes         cryptobyte.String
	signatureAlgorithm cryptobyte.String
	// signature is the bare signature.
	signature []byte
}

// readPKCS10 takes a request apart. cryptobyte accepts DER only: definite and minimal lengths, minimal integers and object
// identifiers, zero padding bits.
func readPKCS10(der []byte) (pkcs10, error) {
	const field = "spec.request"
	var out pkcs10
	input := cryptobyte.String(der)
	var outer, info cryptobyte.String
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) {
		return out, malformed(field, "is no DER sequence")
	}
	if !input.Empty() {
		return out, refuse(ReasonDERTrailingBytes, field, "has %d bytes after the request inside the PEM block; none are allowed", len(input))
	}
	if !outer.ReadASN1Element(&out.signed, cbasn1.SEQUENCE) ||
		!outer.ReadASN1Element(&out.signatureAlgorithm, cbasn1.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&out.signature) {
		return out, malformed(field, "does not consist of request, signature algorithm and signature")
	}
	if !outer.Empty() {
		return out, refuse(ReasonDERTrailingBytes, field, "has %d bytes after the signature; none are allowed", len(outer))
	}

	whole := out.signed
	var version int64
	if !whole.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&version) {
		return out, malformed(field, "has no version")
	}
	if version != 0 {
		return out, refuse(ReasonVersion, field, "has version %d; it must be 0, which is v1", version)
	}
	if !info.ReadASN1(&out.subject, cbasn1.SEQUENCE) ||
		!info.ReadASN1Element(&out.publicKey, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&out.attributes, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return out, malformed(field, "lacks its subject, public key or attributes")
	}
	if !info.Empty() {
		return out, refuse(ReasonDERTrailingBytes, field, "has %d bytes after its attributes; none are allowed", len(info))
	}
	return out, nil
}

var (
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// parseAttributes reads the attribute set: empty, or one extension request (RFC 2985 section 5.4.2) with one value.
func (r *Request) parseAttributes(attributes cryptobyte.String) error {
	const field = "spec.request.attributes"
	seen := false
	for !attributes.Empty() {
		var attribute, values, extensions cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !attributes.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) ||
			!attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
			return malformed(field, "holds something that is no attribute")
		}
		if !oid.Equal(oidExtensionRequest) {
			return refuse(ReasonAttribute, field, "holds %s; only extensionRequest (%s) is allowed", quote(oid.String()), oidExtensionRequest)
		}
		if seen {
			return refuse(ReasonExtensionRequestValues, field, "holds extensionRequest twice; once is allowed")
		}
		seen = true
		if !values.ReadASN1(&extensions, cbasn1.SEQUENCE) || extensions.Empty() {
			return malformed(field, "holds an extensionRequest without extensions")
		}
		if !values.Empty() {
			return refuse(ReasonExtensionRequestValues, field, "holds an extensionRequest with more than one value; one is allowed")
		}
		if err := r.parseExtensions(extensions); err != nil {
			return err
		}
	}
	return nil
}

// parseExtensions reads a list of extensions. A critical one is read like one that is not, as both are understood.
func (r *Request) parseExtensions(extensions cryptobyte.String) error {
	const field = "spec.request.extensions"
	var seen []string
	for !extensions.Empty() {
		var extension, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !extensions.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			!readDefaultFalse(&extension, nil) || !extension.ReadASN1(&value, cbasn1.OCTET_STRING) || !extension.Empty() {
			return malformed(field, "holds something that is no extension")
		}
		var read func(cryptobyte.String) error
		switch {
		case oid.Equal(oidSubjectAltName):
			read = r.parseSubjectAltName
		case oid.Equal(oidBasicConstraints):
			read = r.parseBasicConstraints
		case oid.Equal(oidKeyUsage):
			read = r.checkKeyUsage
		case oid.Equal(oidExtKeyUsage):
			read = r.checkExtKeyUsage
		default:
			return refuse(ReasonExtension, field, "holds %s; only subjectAltName, keyUsage, extendedKeyUsage and basicConstraints are allowed", quote(oid.String()))
		}
		if slices.Contains(seen, oid.String()) {
			return refuse(ReasonExtensionRepeated, field, "holds %s twice; once is allowed", oid)
		}
		seen = append(seen, oid.String())
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

// readDefaultFalse reads a BOOLEAN DEFAULT FALSE into out, which may be nil. DER leaves a default out, so an explicit false
// is refused.
func readDefaultFalse(s *cryptobyte.String, out *bool) bool {
	if !s.PeekASN1Tag(cbasn1.BOOLEAN) {
		return true
	}
	var value bool
	if !s.ReadASN1Boolean(&value) || !value {
		return false
	}
	if out != nil {
		*out = true
	}
	return true
}

// parseBasicConstraints reads RFC 5280 section 4.2.1.9. A Request has no place for a path length, so none is accepted.
func (r *Request) parseBasicConstraints(value cryptobyte.String) error {
	const field = "spec.request.basicConstraints"
	var constraints cryptobyte.String
	if !value.ReadASN1(&constraints, cbasn1.SEQUENCE) || !value.Empty() || !readDefaultFalse(&constraints, &r.IsCA) {
		return malformed(field, "is not encoded as RFC 5280 says")
	}
	if constraints.PeekASN1Tag(cbasn1.INTEGER) {
		return refuse(ReasonPathLength, field, "asks for a path length; only the CA flag is allowed, the signer sets the length")
	}
	if !constraints.Empty() {
		return malformed(field, "is not encoded as RFC 5280 says")
	}
	return nil
}

// checkKeyUsage holds the keyUsage extension (RFC 5280 section 4.2.1.3) against spec.usages, which decide. A backend that
// forwards the request would ask for the extension's bits, so they must be no more than what policy looked at.
func (r *Request) checkKeyUsage(value cryptobyte.String) error {
	const field = "spec.request.keyUsage"
	var bits asn1.BitString
	if !value.ReadASN1BitString(&bits) || !value.Empty() || bits.BitLength > 9 || bits.At(bits.BitLength-1) == 0 {
		return malformed(field, "is not a named bit list without trailing zeros")
	}
	allowed, _, _ := X509Usages(r.Usages) // specUsages has refused those that are unknown.
	for i := range bits.BitLength {
		if bit := x509.KeyUsage(1 << i); bits.At(i) == 1 && allowed&bit == 0 {
			return refuse(ReasonKeyUsage, field, "asks for %s, which is not in spec.usages; leave the extension out or list the usage there", bit)
		}
	}
	return nil
}

// checkExtKeyUsage does for extendedKeyUsage (RFC 5280 section 4.2.1.12) what checkKeyUsage does for keyUsage.
func (r *Request) checkExtKeyUsage(value cryptobyte.String) error {
	const field = "spec.request.extendedKeyUsage"
	var list cryptobyte.String
	if !value.ReadASN1(&list, cbasn1.SEQUENCE) || !value.Empty() || list.Empty() {
		return malformed(field, "is not a list of object identifiers")
	}
	_, usages, _ := X509Usages(r.Usages) // As in checkKeyUsage.
	var seen []asn1.ObjectIdentifier
	for !list.Empty() {
		var oid asn1.ObjectIdentifier
		if !list.ReadASN1ObjectIdentifier(&oid) || slices.ContainsFunc(seen, oid.Equal) {
			return malformed(field, "holds something that is no object identifier, or one twice")
		}
		if !slices.ContainsFunc(usages, func(u x509.ExtKeyUsage) bool { return u.OID().EqualASN1OID(oid) }) {
			return refuse(ReasonExtKeyUsage, field, "asks for %s, which is not in spec.usages; leave the extension out or list the usage there", quote(oid.String()))
		}
		seen = append(seen, oid)
	}
	return nil
}
