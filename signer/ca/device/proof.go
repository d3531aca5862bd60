// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/certwright/certwright/signer"
)

// reasonKeyMismatch is the reason of a *signer.CheckError about a device that has another key.
const reasonKeyMismatch = "KeyMismatch"

var errMismatch = &signer.CheckError{
	Reason: reasonKeyMismatch,
	Err:    errors.New("the key that ca.key.uri names is not the one that the CA certificate in ca.key.chain was issued for: correct one of them"),
}

// boundKey is a Key that signs as long as a context allows.
type boundKey struct {
	*Key
	ctx context.Context
}

// Public implements crypto.Signer.
func (b boundKey) Public() crypto.PublicKey { return b.options.Public }

// Sign implements crypto.Signer. Randomness is the device's own.
func (b boundKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return b.sign(b.ctx, digest, opts)
}

// SignatureAlgorithm is the only algorithm that the key signs with, or zero if the kind of the key decides, or if the device
// cannot be asked now.
func (b boundKey) SignatureAlgorithm() x509.SignatureAlgorithm {
	h, err := b.acquire(b.ctx)
	if err != nil {
		return x509.UnknownSignatureAlgorithm
	}
	defer b.release(h)
	return bound(h.key)
}

// bound returns the algorithm that a key is bound to, as those of Google's KMS are, or zero.
func bound(key crypto.Signer) x509.SignatureAlgorithm {
	if b, ok := key.(interface {
		SignatureAlgorithm() x509.SignatureAlgorithm
	}); ok {
		return b.SignatureAlgorithm()
	}
	return x509.UnknownSignatureAlgorithm
}

// prove has a key sign random bytes behind a text that is no beginning of anything that is worth a signature.
func prove(key crypto.Signer, public crypto.PublicKey) error {
	if known, ok := public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !known.Equal(key.Public()) {
		return errMismatch
	}
	algorithm := bound(key)
	if algorithm == x509.UnknownSignatureAlgorithm {
		algorithm = usual(public)
	}
	opts := options(algorithm)
	message := append([]byte("This only proves that a device holds its key: "), make([]byte, 32)...)
	_, _ = rand.Read(message[len(message)-32:]) // it never fails
	digest := message
	if h := opts.HashFunc(); h != 0 {
		hash := h.New()
		hash.Write(message)
		digest = hash.Sum(nil)
	}
	signature, err := key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return fmt.Errorf("having the device prove that it holds the key: %w", err)
	}
	if err := (&x509.Certificate{PublicKey: public}).CheckSignature(algorithm, message, signature); err != nil {
		return errMismatch
	}
	return nil
}

// usual returns the algorithm that crypto/x509 signs certificates with by a key of that kind.
func usual(public crypto.PublicKey) x509.SignatureAlgorithm {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return x509.PureEd25519
	case *ecdsa.PublicKey:
		switch bits := k.Params().BitSize; {
		case bits > 384:
			return x509.ECDSAWithSHA512
		case bits > 256:
			return x509.ECDSAWithSHA384
		}
		return x509.ECDSAWithSHA256
	}
	return x509.SHA256WithRSA
}

// options returns what crypto.Signer wants to be told for an algorithm.
func options(algorithm x509.SignatureAlgorithm) crypto.SignerOpts {
	switch algorithm {
	case x509.PureEd25519:
		return crypto.Hash(0)
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512:
		return crypto.SHA512
	case x509.SHA256WithRSAPSS:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	case x509.SHA384WithRSAPSS:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA384}
	case x509.SHA512WithRSAPSS:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512}
	}
	return crypto.SHA256
}
