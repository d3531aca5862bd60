// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	keyField       = "spec.request.publicKey"
	signatureField = "spec.request.signatureAlgorithm"

	minRSABits = 2048
	maxRSABits = 8192
	// RSA exponents within FIPS 186-5 appendix A.1.1, and within what crypto/rsa verifies with.
	minRSAExponent = 1<<16 + 1
	maxRSAExponent = 1<<31 - 1
)

// Values of Key.Algorithm.
const (
	AlgorithmECDSA   = "ECDSA"
	AlgorithmEd25519 = "Ed25519"
	AlgorithmRSA     = "RSA"
)

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}

	oidP256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384 = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521 = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
)

// parseKey reads a SubjectPublicKeyInfo. It does nothing with the key that costs more for a larger one.
func parseKey(spki cryptobyte.String) (crypto.PublicKey, Key, error) {
	whole := spki
	var info, algorithm cryptobyte.String
	var oid, curve asn1.ObjectIdentifier
	if !spki.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) {
		return nil, Key{}, malformed(keyField, "has no algorithm")
	}
	switch {
	case oid.Equal(oidEC):
		if !algorithm.ReadASN1ObjectIdentifier(&curve) || !curve.Equal(oidP256) && !curve.Equal(oidP384) && !curve.Equal(oidP521) {
			return nil, Key{}, refuse(ReasonKeyCurve, keyField, "is on the curve %s; it must be the named curve P-256, P-384 or P-521", quote(curve.String()))
		}
	case !oid.Equal(oidRSA) && !oid.Equal(oidEd25519):
		return nil, Key{}, refuse(ReasonKeyAlgorithm, keyField, "has the algorithm %s; it must be RSA, ECDSA or Ed25519", quote(oid.String()))
	}
	public, err := x509.ParsePKIXPublicKey(whole)
	if err != nil {
		return nil, Key{}, refuse(ReasonKeyMalformed, keyField, "does not parse: %s", quote(err.Error()))
	}
	key, err := describeKey(public)
	if err != nil {
		return nil, Key{}, err
	}
	// Writing the key again shows whether the encoding holds anything but the key.
	if again, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(again, whole) {
		return nil, Key{}, refuse(ReasonKeyMalformed, keyField, "holds more than a key, or is not in DER; it must be encoded as RFC 5280, 5480 or 8410 says")
	}
	return public, key, nil
}

func describeKey(public crypto.PublicKey) (Key, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return Key{Algorithm: AlgorithmECDSA, Size: k.Curve.Params().BitSize}, nil
	case ed25519.PublicKey:
		return Key{Algorithm: AlgorithmEd25519, Size: 256}, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return Key{}, refuse(ReasonKeySize, keyField, "is an RSA key of %d bits; %d to %d are allowed", bits, minRSABits, maxRSABits)
		}
		if k.E < minRSAExponent || k.E > maxRSAExponent || k.E%2 == 0 {
			return Key{}, refuse(ReasonKeyExponent, keyField, "is an RSA key with the exponent %d; an odd one from %d to %d is allowed", k.E, minRSAExponent, maxRSAExponent)
		}
		if k.N.Bit(0) == 0 {
			return Key{}, refuse(ReasonKeyMalformed, keyField, "is an RSA key with an even modulus; it must be a product of two odd primes")
		}
		return Key{Algorithm: AlgorithmRSA, Size: k.N.BitLen()}, nil
	}
	return Key{}, refuse(ReasonKeyAlgorithm, keyField, "is of the type %T; it must be RSA, ECDSA or Ed25519", public)
}

// signatureScheme is an AlgorithmIdentifier of a signature with its parameters left to its kind of key.
type signatureScheme struct {
	oid       asn1.ObjectIdentifier
	key       string
	algorithm x509.SignatureAlgorithm
	weak      bool
}

var (
	oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}

	signatureSchemes = []signatureScheme{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, AlgorithmRSA, x509.SHA256WithRSA, false},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, AlgorithmRSA, x509.SHA384WithRSA, false},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, AlgorithmRSA, x509.SHA512WithRSA, false},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, AlgorithmECDSA, x509.ECDSAWithSHA256, false},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, AlgorithmECDSA, x509.ECDSAWithSHA384, false},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, AlgorithmECDSA, x509.ECDSAWithSHA512, false},
		{oidEd25519, AlgorithmEd25519, x509.PureEd25519, false},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 2}, AlgorithmRSA, x509.MD2WithRSA, true},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}, AlgorithmRSA, x509.MD5WithRSA, true},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, AlgorithmRSA, x509.SHA1WithRSA, true},
		{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 29}, AlgorithmRSA, x509.SHA1WithRSA, true},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, AlgorithmECDSA, x509.ECDSAWithSHA1, true},
	}
	pssSchemes = []signatureScheme{
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, AlgorithmRSA, x509.SHA256WithRSAPSS, false},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, AlgorithmRSA, x509.SHA384WithRSAPSS, false},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, AlgorithmRSA, x509.SHA512WithRSAPSS, false},
	}
	pssSaltLengths = map[x509.SignatureAlgorithm]int64{x509.SHA256WithRSAPSS: 32, x509.SHA384WithRSAPSS: 48, x509.SHA512WithRSAPSS: 64}
)

const signaturesAllowed = "it must be RSA (PKCS #1 v1.5 or PSS), ECDSA with SHA-256, SHA-384 or SHA-512, or Ed25519, as the key is"

// parseSignatureAlgorithm reads an AlgorithmIdentifier, including its parameters to the last byte.
func parseSignatureAlgorithm(der cryptobyte.String, key Key) (x509.SignatureAlgorithm, error) {
	var identifier cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !der.ReadASN1(&identifier, cbasn1.SEQUENCE) || !identifier.ReadASN1ObjectIdentifier(&oid) {
		return 0, malformed(signatureField, "is no algorithm identifier")
	}
	scheme := findScheme(signatureSchemes, oid)
	if oid.Equal(oidRSAPSS) {
		scheme = readPSS(&identifier)
	}
	switch {
	case scheme == nil || scheme.key != key.Algorithm:
		return 0, refuse(ReasonSignatureAlgorithm, signatureField, "is %s with the %s key; %s", quote(oid.String()), key.Algorithm, signaturesAllowed)
	case scheme.weak:
		return 0, refuse(ReasonWeakSignature, signatureField, "is %s; its hash can be forged, %s", scheme.algorithm, signaturesAllowed)
	case key.Algorithm == AlgorithmRSA && !oid.Equal(oidRSAPSS) && !readNull(&identifier), !identifier.Empty():
		return 0, malformed(signatureField, "has parameters that do not belong to the algorithm")
	}
	return scheme.algorithm, nil
}

func findScheme(schemes []signatureScheme, oid asn1.ObjectIdentifier) *signatureScheme {
	for i := range schemes {
		if schemes[i].oid.Equal(oid) {
			return &schemes[i]
		}
	}
	return nil
}

// readPSS reads RSASSA-PSS-params (RFC 4055 section 3.1). It returns nil unless they say one of three things: SHA-256,
// SHA-384 or SHA-512 for the message and the mask, with a salt as long as the hash.
func readPSS(identifier *cryptobyte.String) *signatureScheme {
	var params, hash, mask, salt, maskHash cryptobyte.String
	var maskOID asn1.ObjectIdentifier
	var saltLength int64
	explicit := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	if !identifier.ReadASN1(&params, cbasn1.SEQUENCE) ||
		!params.ReadASN1(&hash, explicit(0)) || !params.ReadASN1(&mask, explicit(1)) || !params.ReadASN1(&salt, explicit(2)) || !params.Empty() ||
		!mask.ReadASN1(&maskHash, cbasn1.SEQUENCE) || !mask.Empty() || !maskHash.ReadASN1ObjectIdentifier(&maskOID) || !maskOID.Equal(oidMGF1) ||
		!salt.ReadASN1Integer(&saltLength) || !salt.Empty() {
		return nil
	}
	scheme := readHash(&hash)
	if scheme == nil || !hash.Empty() || readHash(&maskHash) != scheme || !maskHash.Empty() || saltLength != pssSaltLengths[scheme.algorithm] {
		return nil
	}
	return scheme
}

// readHash reads the AlgorithmIdentifier of a hash, whose parameters are NULL or left out.
func readHash(s *cryptobyte.String) *signatureScheme {
	var identifier cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1(&identifier, cbasn1.SEQUENCE) || !identifier.ReadASN1ObjectIdentifier(&oid) ||
		!identifier.Empty() && (!readNull(&identifier) || !identifier.Empty()) {
		return nil
	}
	return findScheme(pssSchemes, oid)
}

func readNull(s *cryptobyte.String) bool {
	var null cryptobyte.String
	return s.ReadASN1(&null, cbasn1.NULL) && null.Empty()
}
