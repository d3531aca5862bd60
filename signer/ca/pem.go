// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
)

// The keys of the Secrets that this package reads and writes.
const (
	keyRootCert = "root.crt"
	keyRootKey  = "root.key"
	keyAnchors  = "ca.crt"
)

var pemBegin = []byte("-----BEGIN")

// certificates reads the certificates of one key of a Secret.
func certificates(s *corev1.Secret, key string) ([]*x509.Certificate, error) {
	if len(bytes.TrimSpace(s.Data[key])) == 0 {
		return nil, authority.Unusable(reasonSecretIncomplete, "key %s is missing or empty", key)
	}
	certs, err := signer.ParsePEM(s.Data[key])
	if err != nil {
		return nil, authority.Unusable(authority.ReasonCertificateInvalid, "key %s: %w", key, err)
	}
	return certs, nil
}

// privateKey reads the private key of one key of a Secret: PKCS #8, PKCS #1 or SEC 1, in one PEM block.
func privateKey(s *corev1.Secret, key string) (crypto.Signer, error) {
	rest := s.Data[key]
	if len(bytes.TrimSpace(rest)) == 0 {
		return nil, authority.Unusable(reasonSecretIncomplete, "key %s is missing or empty", key)
	}
	block, rest := pem.Decode(rest)
	if block != nil && block.Type == "EC PARAMETERS" { // what openssl ecparam writes before the key
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, authority.Unusable(reasonKeyInvalid, "key %s holds no complete PEM block", key)
	}
	if bytes.Contains(rest, pemBegin) {
		return nil, authority.Unusable(reasonKeyInvalid, "key %s holds more than one PEM block: only the private key may be there", key)
	}
	parsed, err := parseKey(block)
	if err != nil {
		return nil, authority.Unusable(reasonKeyInvalid, "key %s: %w", key, err)
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

func encodeCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func encodeKey(k crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encoding CA key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
