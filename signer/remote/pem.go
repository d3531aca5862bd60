// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Bounds of a chain that a server sends: more is never verified.
const (
	maxChain      = 10
	maxChainBytes = 128 << 10 // in PEM
)

var pemBegin = []byte("-----BEGIN")

// Chain parses the certificates in PEM that a server sends. It is strict: there are one to ten, and nothing else: no other
// blocks, no headers, no text around them. Whether they form a chain is for the signer to verify.
func Chain(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxChainBytes {
		return nil, fmt.Errorf("the chain has %d bytes, allowed are %d", len(text), maxChainBytes)
	}
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if len(chain) == maxChain {
			return nil, fmt.Errorf("the chain has more than %d certificates", maxChain)
		}
		if !bytes.HasPrefix(rest, pemBegin) {
			return nil, fmt.Errorf("there is something else than PEM at certificate %d of the chain", len(chain)+1)
		}
		cert, after, err := next(rest)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", len(chain)+1, err)
		}
		chain, rest = append(chain, cert), after
	}
	if len(chain) == 0 {
		return nil, errors.New("the chain is empty")
	}
	return chain, nil
}

// Certificates parses the certificates in PEM that a person wrote into a field, which the error names. Text around the
// blocks is fine, as tools like to describe a certificate there. No text is no certificates.
func Certificates(text, field string) ([]*x509.Certificate, error) {
	rest := []byte(text)
	if len(bytes.TrimSpace(rest)) == 0 {
		return nil, nil
	}
	var certs []*x509.Certificate
	for {
		begin := bytes.Index(rest, pemBegin)
		if begin < 0 {
			break
		}
		cert, after, err := next(rest[begin:])
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", field, len(certs)+1, err)
		}
		certs, rest = append(certs, cert), after
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: it holds no certificate in PEM: it must begin with -----BEGIN CERTIFICATE-----", field)
	}
	return certs, nil
}

// Pool returns the certificates in PEM of a field as roots to trust, or nil, which stands for the public ones, if there is
// no text. The error names the field.
func Pool(text, field string) (*x509.CertPool, error) {
	certs, err := Certificates(text, field)
	if err != nil || certs == nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// next parses the block that the text begins with.
func next(text []byte) (*x509.Certificate, []byte, error) {
	block, rest := pem.Decode(text)
	// pem.Decode skips what it cannot read, so one call may swallow more than one block.
	if block == nil || bytes.Count(text[:len(text)-len(rest)], pemBegin) != 1 {
		return nil, nil, errors.New("it is not a complete PEM block")
	}
	if block.Type != "CERTIFICATE" {
		return nil, nil, fmt.Errorf("it is a PEM block of type %q: only CERTIFICATE may be there", Bound(block.Type))
	}
	if len(block.Headers) > 0 {
		return nil, nil, errors.New("its PEM block has headers, which a certificate has not")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing it: %w", err)
	}
	return cert, rest, nil
}
