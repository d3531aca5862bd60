// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// MaxBytes bounds what is decoded of one source. A trust bundle has at most 1 MiB (KEP-3257).
const MaxBytes = 4 << 20

// material is what was found in a source.
type material struct {
	certificates []*x509.Certificate
	requests     [][]byte // PEM blocks of PKCS #10 requests
	keys         []crypto.Signer
	problems     []string
}

// decode reads all PEM blocks of a source. A block that cannot be read is a problem and no error: the others can.
func decode(data []byte) (material, error) {
	var m material
	if len(data) > MaxBytes {
		return m, fmt.Errorf("it has %d bytes; at most %d are read", len(data), MaxBytes)
	}
	blocks := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		if err := m.add(block); err != nil {
			m.problems = append(m.problems, fmt.Sprintf("PEM block %d: %v", blocks, err))
		}
	}
	if blocks == 0 {
		return m, errors.New("it holds no PEM block: expected BEGIN CERTIFICATE, BEGIN CERTIFICATE REQUEST or BEGIN PRIVATE KEY")
	}
	return m, nil
}

func (m *material) add(block *pem.Block) error {
	switch {
	case block.Type == "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		m.certificates = append(m.certificates, cert)
	case block.Type == "CERTIFICATE REQUEST" || block.Type == "NEW CERTIFICATE REQUEST":
		m.requests = append(m.requests, pem.EncodeToMemory(block))
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		key, err := parseKey(block)
		if err != nil {
			return err
		}
		m.keys = append(m.keys, key)
	case block.Type == "EC PARAMETERS": // openssl writes them in front of a key, which repeats them
	default:
		return fmt.Errorf("type %q is neither a certificate, a request nor a private key", block.Type)
	}
	return nil
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the private key is encrypted: it cannot be held against the certificate")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("type %q of a private key is not read", block.Type)
	}
	if err != nil {
		return nil, errors.New("the private key does not parse") // the parser's words may repeat parts of it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	return signer, nil
}

func describeKey(public crypto.PublicKey) Key {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return Key{Algorithm: "ECDSA", Size: k.Curve.Params().BitSize}
	case *rsa.PublicKey:
		return Key{Algorithm: "RSA", Size: k.N.BitLen()}
	case ed25519.PublicKey:
		return Key{Algorithm: "Ed25519", Size: 256}
	}
	return Key{Algorithm: fmt.Sprintf("%T", public)}
}

// same reports whether two public keys are one.
func same(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
