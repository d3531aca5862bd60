// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// keyAlgorithms are how a key of each algorithm is made.
var keyAlgorithms = map[string]func() (crypto.Signer, error){
	"ECDSA-P256": ecdsaKey(elliptic.P256()),
	"ECDSA-P384": ecdsaKey(elliptic.P384()),
	"ECDSA-P521": ecdsaKey(elliptic.P521()),
	"Ed25519":    ed25519Key,
	"RSA-2048":   rsaKey(2048),
	"RSA-3072":   rsaKey(3072),
	"RSA-4096":   rsaKey(4096),
}

// KeyAlgorithms returns the names that GenerateKey knows, sorted.
func KeyAlgorithms() []string { return slices.Sorted(maps.Keys(keyAlgorithms)) }

func ecdsaKey(curve elliptic.Curve) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
}

func ed25519Key() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func rsaKey(bits int) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, bits) }
}

// GenerateKey makes a private key of one of KeyAlgorithms.
func GenerateKey(algorithm string) (crypto.Signer, error) {
	generate, known := keyAlgorithms[algorithm]
	if !known {
		return nil, fmt.Errorf("keyAlgorithm: %q is unknown", algorithm)
	}
	key, err := generate()
	if err != nil {
		return nil, fmt.Errorf("generating %s key: %w", algorithm, err)
	}
	return key, nil
}

// RequestPEM returns a PKCS#10 request (RFC 2986) for the names, signed by key.
func RequestPEM(key crypto.Signer, n Names) ([]byte, error) {
	template, err := n.template()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("creating certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseKey reads a private key in PKCS#8 from PEM.
func ParseKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM block PRIVATE KEY found")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

// SameKey reports whether two keys are one.
func SameKey(a, b crypto.Signer) bool {
	one, errA := x509.MarshalPKIXPublicKey(a.Public())
	two, errB := x509.MarshalPKIXPublicKey(b.Public())
	return errA == nil && errB == nil && bytes.Equal(one, two)
}
