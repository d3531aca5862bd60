// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package entry reads and writes the entries of Secrets that hold certificates and private keys of CAs.
//
// It promises that what it reads is taken whole or not at all, and that no error holds any of a key.
package entry

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
)

// The reasons of the *signer.CheckErrors of this package, beside those of authority.
const (
	ReasonSecretIncomplete = "SecretIncomplete" // an entry is missing
	ReasonKeyInvalid       = "KeyInvalid"       // a private key cannot be read
)

// Data are the entries of a Secret.
type Data = map[string][]byte

var pemBegin = []byte("-----BEGIN")

// Certificates reads the certificates of one entry: at least one.
func Certificates(d Data, key string) ([]*x509.Certificate, error) {
	if !Has(d, key) {
		return nil, missing(key)
	}
	certs, err := signer.ParsePEM(d[key])
	if err != nil {
		return nil, authority.Unusable(authority.ReasonCertificateInvalid, "key %s: %w", key, err)
	}
	return certs, nil
}

// Certificate reads the one certificate of an entry.
func Certificate(d Data, key string) (*x509.Certificate, error) {
	certs, err := Certificates(d, key)
	if err == nil && len(certs) != 1 {
		err = authority.Unusable(authority.ReasonCertificateInvalid, "key %s holds %d certificates: it must hold one", key, len(certs))
	}
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// Has reports whether there is anything in an entry.
func Has(d Data, key string) bool { return len(bytes.TrimSpace(d[key])) > 0 }

func missing(key string) error {
	return authority.Unusable(ReasonSecretIncomplete, "key %s is missing or empty", key)
}

// PrivateKey reads the private key of one entry: PKCS #8, PKCS #1 or SEC 1, in one PEM block.
func PrivateKey(d Data, key string) (crypto.Signer, error) {
	if !Has(d, key) {
		return nil, missing(key)
	}
	block, rest := pem.Decode(d[key])
	if block != nil && block.Type == "EC PARAMETERS" { // what openssl ecparam writes before the key
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, authority.Unusable(ReasonKeyInvalid, "key %s holds no complete PEM block", key)
	}
	if bytes.Contains(rest, pemBegin) {
		return nil, authority.Unusable(ReasonKeyInvalid, "key %s holds more than one PEM block: only the private key may be there", key)
	}
	parsed, err := parseKey(block)
	if err != nil {
		return nil, authority.Unusable(ReasonKeyInvalid, "key %s: %w", key, err)
	}
	k, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, authority.Unusable(authority.ReasonUnsupportedKey, "key %s is a %T, which cannot sign: it must be RSA, ECDSA or Ed25519", key, parsed)
	}
	return k, nil
}

func parseKey(block *pem.Block) (any, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the private key is encrypted: store it without a passphrase")
	}
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("a PEM block of type %q is no private key: it must be PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY", block.Type)
}

// EncodeKey returns an entry that holds the private key.
func EncodeKey(k crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encoding CA key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
