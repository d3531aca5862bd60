// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base32"
	"encoding/pem"
	"fmt"
	"strings"
)

// keyAlgorithms are the values of Config.KeyAlgorithm and how a key of each is made.
var keyAlgorithms = map[string]func() (crypto.Signer, error){
	"ECDSA-P256": ecdsaKey(elliptic.P256()),
	"ECDSA-P384": ecdsaKey(elliptic.P384()),
	"ECDSA-P521": ecdsaKey(elliptic.P521()),
	"Ed25519":    ed25519Key,
	"RSA-2048":   rsaKey(2048),
	"RSA-3072":   rsaKey(3072),
	"RSA-4096":   rsaKey(4096),
}

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

func generateKey(algorithm string) (crypto.Signer, error) {
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

// requestPEM returns a PKCS#10 request (RFC 2986) for the names, signed by key.
func requestPEM(key crypto.Signer, n names) ([]byte, error) {
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

// randomName returns a name for a CertificateSigningRequest. Everyone who may
// create requests could plant one under a name that can be guessed, so it carries
// 130 random bits: the five characters that generateName adds are too few.
func randomName() string {
	random := make([]byte, 17)
	rand.Read(random) // never fails since Go 1.24
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random)
	return "certwright-" + strings.ToLower(text[:26])
}
