// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package account

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/certwright/certwright/signer/remote"
)

// minRSA is the size of the smallest RSA key that is fit for an account.
const minRSA = 2048

func makeKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an account key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding an account key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads a private key in PEM: PKCS #8, PKCS #1 or SEC 1. Its errors hold nothing of it.
func parseKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("is not one block of PEM")
	}
	pkcs8, err8 := x509.ParsePKCS8PrivateKey(block.Bytes)
	pkcs1, err1 := x509.ParsePKCS1PrivateKey(block.Bytes)
	sec1, err := x509.ParseECPrivateKey(block.Bytes)
	key := pkcs8
	switch {
	case err8 == nil:
	case err1 == nil:
		key = pkcs1
	case err == nil:
		key = sec1
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
			return key, nil
		}
		return nil, fmt.Errorf("is an ECDSA key of the curve %s, which ACME does not know", key.Curve.Params().Name)
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return nil, fmt.Errorf("is an RSA key of %d bits", bits)
		}
		return key, nil
	}
	return nil, errors.New("is " + cmp.Or(strings.ToLower(remote.Bound(block.Type)), "something") + " that is no RSA or ECDSA private key")
}
