// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
)

// Bounds of a chain that a server sends: more is never verified.
const (
	maxChain      = 10
	maxChainBytes = 128 << 10 // in PEM
)

// Chain parses the certificates in PEM that a server sends: one to ten, and no other blocks. Whether they form a chain is for
// verify.Chain.
func Chain(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxChainBytes {
		return nil, fmt.Errorf("the chain has %d bytes, allowed are %d", len(text), maxChainBytes)
	}
	chain, err := signer.ParsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("parsing the chain: %w", err)
	}
	if len(chain) > maxChain {
		return nil, fmt.Errorf("the chain has %d certificates, allowed are %d", len(chain), maxChain)
	}
	return chain, nil
}

// Request returns the request as servers take it: its own PKCS #10 bytes in PEM.
func Request(req csr.Request) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req.DER}))
}

// Certificates parses the certificates in PEM that a person wrote into a field, which the error names. No text is no
// certificates.
func Certificates(text, field string) ([]*x509.Certificate, error) {
	if len(bytes.TrimSpace([]byte(text))) == 0 {
		return nil, nil
	}
	certs, err := signer.ParsePEM([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
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
