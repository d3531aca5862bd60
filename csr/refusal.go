// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"errors"
	"fmt"
	"strconv"
)

// Refusal says why a request cannot be represented. No later attempt at the same bytes can succeed, so it is a verdict and
// not trouble. Find it with errors.As.
type Refusal struct {
	// Reason is one of the Reason constants, in CamelCase and fit for a condition.
	Reason string
	// Field is the path of what is refused, such as spec.usages[1] or spec.request.subjectAltName[0].
	Field string
	// Message names the value and what is allowed. Whatever it repeats of the request is short, quoted and in ASCII, since
	// messages end in conditions, logs and terminals.
	Message string
}

// Error returns the field and the message as one sentence.
func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Message
	}
	return r.Field + ": " + r.Message
}

// Reasons for refusing what surrounds the request: spec, PEM and DER.
const (
	ReasonNoUsages           = "NoUsages"
	ReasonUnknownUsage       = "UnknownUsage"
	ReasonRepeatedUsage      = "RepeatedUsage"
	ReasonExpirationTooShort = "ExpirationTooShort"

	ReasonRequestTooLarge  = "RequestTooLarge"
	ReasonPEMMissing       = "PEMMissing"
	ReasonPEMLeadingText   = "PEMLeadingText"
	ReasonPEMTrailingText  = "PEMTrailingText"
	ReasonPEMSecondBlock   = "PEMSecondBlock"
	ReasonPEMType          = "PEMTypeNotAllowed"
	ReasonPEMHeaders       = "PEMHeaders"
	ReasonPEMNotCanonical  = "PEMNotCanonical"
	ReasonDERTrailingBytes = "DERTrailingBytes"
	ReasonDERMalformed     = "DERMalformed"
	ReasonVersion          = "VersionNotAllowed"
)

// Reasons for refusing a PodCertificateRequest besides these. The first is one that Kubernetes knows.
const (
	ReasonUnsupportedKeyType = "UnsupportedKeyType"
	ReasonPodIdentity        = "PodIdentityIncomplete"
	ReasonPodKey             = "PodKeyMissing"
	ReasonStubNotEmpty       = "StubRequestNotEmpty"
)

// Reasons for refusing attributes and extensions.
const (
	ReasonAttribute              = "AttributeNotAllowed"
	ReasonExtensionRequestValues = "ExtensionRequestRepeated"
	ReasonExtension              = "ExtensionNotAllowed"
	ReasonExtensionRepeated      = "ExtensionRepeated"
	ReasonKeyUsage               = "KeyUsageNotInSpec"
	ReasonExtKeyUsage            = "ExtKeyUsageNotInSpec"
	ReasonPathLength             = "PathLengthNotAllowed"
)

// Reasons for refusing a name in the subjectAltName extension, or a name that a caller checks.
const (
	ReasonSANKind            = "SANKindNotAllowed"
	ReasonDNSNameLength      = "DNSNameLength"
	ReasonDNSNameEmptyLabel  = "DNSNameEmptyLabel"
	ReasonDNSNameTrailingDot = "DNSNameTrailingDot"
	ReasonDNSNameCharacter   = "DNSNameCharacter"
	ReasonDNSNameHyphen      = "DNSNameHyphen"
	ReasonDNSNameWildcard    = "DNSNameWildcard"
	ReasonDNSNamePunycode    = "DNSNamePunycode"
	ReasonDNSNameIsIP        = "DNSNameIsIPAddress"
	ReasonEmail              = "EmailAddressNotPlain"
	ReasonURI                = "URINotPlain"
	ReasonSPIFFEID           = "SPIFFEIDInvalid"
	ReasonIPAddressLength    = "IPAddressLength"
	ReasonIPAddressMapped    = "IPAddressMapped"
	ReasonIPAddressUnusable  = "IPAddressNotUnicast"
)

// Reasons for refusing the subject.
const (
	ReasonSubjectAttribute   = "SubjectAttributeNotAllowed"
	ReasonSubjectRepeated    = "SubjectAttributeRepeated"
	ReasonSubjectMultiValued = "SubjectRDNMixed"
	ReasonSubjectStringType  = "SubjectStringTypeNotAllowed"
	ReasonSubjectText        = "SubjectTextNotPrintable"
	ReasonSubjectEmpty       = "SubjectValueEmpty"
	ReasonCommonNameLength   = "CommonNameTooLong"
)

// Reasons for refusing the key or the signature made with it.
const (
	ReasonKeyAlgorithm           = "KeyAlgorithmNotAllowed"
	ReasonKeyCurve               = "KeyCurveNotAllowed"
	ReasonKeySize                = "KeySizeNotAllowed"
	ReasonKeyExponent            = "KeyExponentNotAllowed"
	ReasonKeyMalformed           = "KeyMalformed"
	ReasonWeakSignature          = "SignatureHashWeak"
	ReasonSignatureAlgorithm     = "SignatureAlgorithmNotAllowed"
	ReasonSignatureDoesNotVerify = "SignatureDoesNotVerify"
)

func refuse(reason, field, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Field: field, Message: fmt.Sprintf(format, args...)}
}

// at moves a refusal to the field in which the caller found it.
func at(field string, err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		refusal.Field = field
	}
	return err
}

func malformed(field, what string) *Refusal {
	return refuse(ReasonDERMalformed, field, "%s; it must be a PKCS #10 request (RFC 2986) in strict DER", what)
}

// maxQuoted bounds, in bytes, how much of a value an error message repeats.
const maxQuoted = 64

// quote makes attacker's text fit for a message: bounded, and with everything but printable ASCII escaped.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToASCII(s[:maxQuoted]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
