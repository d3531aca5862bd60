// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

const (
	// MaxRequestBytes bounds spec.request, which the API server does not. A request with a hundred names and an RSA key of
	// 8192 bits needs half of it.
	MaxRequestBytes = 16 << 10
	// minExpirationSeconds is what the API server enforces on creation.
	minExpirationSeconds = 600
	pemType              = "CERTIFICATE REQUEST"
)

// Parse returns what obj asks for, or a *Refusal if a Request cannot represent all of it. The result shares no memory with obj.
//
// Whoever created obj controls every byte of spec.request, so Parse does the cheap checks first: nothing is decoded before
// its length is known, and no signature is verified before the key's size is. Whether a refused request is denied, failed or
// left alone is for the caller to decide, and so is every question of policy: a request for a CA certificate is parsed like any other.
func Parse(obj *certificatesv1.CertificateSigningRequest) (Request, error) {
	usages, err := specUsages(obj.Spec.Usages)
	if err != nil {
		return Request{}, err
	}
	req := Request{
		Name:       obj.Name,
		UID:        obj.UID,
		SignerName: obj.Spec.SignerName,
		Requester: Requester{
			Username: obj.Spec.Username,
			UID:      obj.Spec.UID,
			Groups:   slices.Clone(obj.Spec.Groups),
			Extra:    maps.Clone(obj.Spec.Extra),
		},
		Usages: usages,
	}
	for key, values := range req.Requester.Extra {
		req.Requester.Extra[key] = slices.Clone(values)
	}
	if seconds := obj.Spec.ExpirationSeconds; seconds != nil {
		if *seconds < minExpirationSeconds {
			return Request{}, refuse(ReasonExpirationTooShort, "spec.expirationSeconds", "%d is too short; %d seconds is the least", *seconds, minExpirationSeconds)
		}
		req.Duration = time.Duration(*seconds) * time.Second
	}
	if req.DER, err = decodePEM(obj.Spec.Request); err != nil {
		return Request{}, err
	}
	if err := req.parseDER(); err != nil {
		return Request{}, err
	}
	return req, nil
}

// parseDER fills in all that the PKCS #10 bytes say, and verifies the signature that proves possession of the key.
func (r *Request) parseDER() error {
	outer, algorithm, err := r.parseKeyOf(r.DER)
	if err != nil {
		return err
	}
	if r.Subject, err = parseSubject(outer.subject); err != nil {
		return err
	}
	if err := r.parseAttributes(outer.attributes); err != nil {
		return err
	}
	return r.verifyPossession(r.DER, outer, algorithm)
}

// parseKeyOf takes a PKCS #10 request apart, and fills in its key.
func (r *Request) parseKeyOf(der []byte) (outer pkcs10, algorithm x509.SignatureAlgorithm, err error) {
	if outer, err = readPKCS10(der); err != nil {
		return outer, 0, err
	}
	if r.PublicKey, r.Key, err = parseKey(outer.publicKey); err != nil {
		return outer, 0, err
	}
	algorithm, err = parseSignatureAlgorithm(outer.signatureAlgorithm, r.Key)
	return outer, algorithm, err
}

// verifyPossession checks that who made the PKCS #10 request has the private key.
func (r *Request) verifyPossession(der []byte, outer pkcs10, algorithm x509.SignatureAlgorithm) error {
	// What crypto/x509 cannot parse, the API server and most backends cannot either. Its result is not used: names come from
	// the strict parsers here, and the tests hold the two against each other.
	if _, err := x509.ParseCertificateRequest(der); err != nil {
		return malformed("spec.request", "is refused by crypto/x509: "+quote(err.Error()))
	}
	signed := x509.CertificateRequest{
		PublicKey:                r.PublicKey,
		SignatureAlgorithm:       algorithm,
		RawTBSCertificateRequest: outer.signed,
		Signature:                outer.signature,
	}
	if err := signed.CheckSignature(); err != nil {
		return refuse(ReasonSignatureDoesNotVerify, "spec.request.signature", "does not verify with the public key in the request; it must be made with the matching private key")
	}
	return nil
}

// decodePEM returns the contents of the single PEM block that text must be. The API server takes the first block and
// ignores everything else, so a request that holds more shows different things to different readers.
func decodePEM(text []byte) ([]byte, error) {
	const field = "spec.request"
	if len(text) > MaxRequestBytes {
		return nil, refuse(ReasonRequestTooLarge, field, "is longer than the %d bytes that are allowed", MaxRequestBytes)
	}
	begin := bytes.Index(text, []byte("-----BEGIN "))
	if begin < 0 {
		return nil, refuse(ReasonPEMMissing, field, "holds no PEM block; it must be one block of type %s", pemType)
	}
	if lead := trimSpace(text[:begin]); len(lead) > 0 {
		return nil, refuse(ReasonPEMLeadingText, field, "starts with %s; nothing may come before the PEM block", quote(string(lead)))
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, refuse(ReasonPEMNotCanonical, field, "holds a PEM block that does not decode; it must be one block of type %s in canonical base64", pemType)
	}
	if tail := trimSpace(rest); bytes.Contains(tail, []byte("-----BEGIN ")) {
		return nil, refuse(ReasonPEMSecondBlock, field, "holds a second PEM block; only one is allowed")
	} else if len(tail) > 0 {
		return nil, refuse(ReasonPEMTrailingText, field, "ends with %s; nothing may follow the PEM block", quote(string(tail)))
	}
	if block.Type != pemType {
		return nil, refuse(ReasonPEMType, field, "is a PEM block of type %s; it must be %s", quote(block.Type), pemType)
	}
	if len(block.Headers) > 0 {
		return nil, refuse(ReasonPEMHeaders, field, "has PEM headers; none are allowed")
	}
	// The decoder skips what it does not understand: a broken first block, or bits that base64 leaves over. Writing the block
	// again shows whether it did.
	if !bytes.Equal(withoutSpace(pem.EncodeToMemory(block)), withoutSpace(text)) {
		return nil, refuse(ReasonPEMNotCanonical, field, "holds more than its PEM block says; it must be one block of type %s in canonical base64", pemType)
	}
	return block.Bytes, nil
}

const pemSpace = " \t\r\n"

func trimSpace(b []byte) []byte { return bytes.Trim(b, pemSpace) }

func withoutSpace(b []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if strings.ContainsRune(pemSpace, r) {
			return -1
		}
		return r
	}, b)
}
