// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

var pemBegin = []byte("-----BEGIN")

// ParsePEM reads all certificates of a PEM text, in their order. Text between the blocks is ignored, as tools like to describe
// a certificate there. A block of another type, one with headers, one that is cut off or unreadable, and a text without any are errors.
func ParsePEM(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		// Decode passes over a block that it cannot read: all of the text that it consumed must be this one block.
		if n := bytes.Count(text[:len(text)-len(rest)], pemBegin); n != 1 {
			return nil, fmt.Errorf("certificate %d is not a complete PEM block", len(certs)+1)
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return nil, fmt.Errorf("PEM block %d is of type %q with %d headers: only CERTIFICATE without headers may be there", len(certs)+1, block.Type, len(block.Headers))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing certificate %d: %w", len(certs)+1, err)
		}
		certs, text = append(certs, cert), rest
	}
	if bytes.Contains(text, pemBegin) {
		return nil, fmt.Errorf("certificate %d is not a complete PEM block", len(certs)+1)
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no PEM block of type CERTIFICATE")
	}
	return certs, nil
}

// EncodePEM writes certificates as a PEM text, in their order and with nothing between the blocks.
func EncodePEM(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// Fingerprint is the SHA-256 fingerprint of a certificate, in hexadecimal digits, by which a Signer's status and its annotations name CAs.
func Fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }
