// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cloud signs with private keys in the key management services of Amazon, Google and Microsoft. Who may use a key is
// decided there by the identity that the cloud gives to the signer's pod: no credential is configured here.
package cloud

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/awskms"
	"go.step.sm/crypto/kms/azurekms"
	"go.step.sm/crypto/kms/cloudkms"

	"github.com/certwright/certwright/signer/ca/keyuri"
)

// key is a key of a KMS, and what reaches it.
type key struct {
	crypto.Signer
	manager apiv1.KeyManager
}

var _ io.Closer = key{}

// Close gives back the connection to the KMS.
func (k key) Close() error { return k.manager.Close() }

// SignatureAlgorithm is the only one that the KMS signs with by this key, or zero where the kind of the key decides.
func (k key) SignatureAlgorithm() x509.SignatureAlgorithm {
	if bound, ok := k.Signer.(*cloudkms.Signer); ok {
		return bound.SignatureAlgorithm()
	}
	return x509.UnknownSignatureAlgorithm
}

// Open opens a key. The result is an io.Closer.
func Open(ctx context.Context, uri keyuri.URI) (crypto.Signer, error) {
	name := uri.String()
	manager, err := connect(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("connecting to the KMS: %w", err)
	}
	if named, ok := uri.(*keyuri.CloudKMS); ok {
		name = named.Version
	}
	signer, err := manager.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: name})
	if err != nil {
		_ = manager.Close() // err is what matters
		return nil, fmt.Errorf("reading the key's public half from the KMS: %w", err)
	}
	if signer.Public() == nil {
		return nil, errors.New("the KMS gave no public key")
	}
	return key{signer, manager}, nil
}

func connect(ctx context.Context, uri keyuri.URI) (apiv1.KeyManager, error) {
	switch u := uri.(type) {
	case *keyuri.AWSKMS:
		return awskms.New(ctx, apiv1.Options{Region: u.Region})
	case *keyuri.CloudKMS:
		return cloudkms.New(ctx, apiv1.Options{})
	case *keyuri.AzureKMS:
		return azurekms.New(ctx, apiv1.Options{URI: u.String()})
	}
	return nil, fmt.Errorf("a %T names no key of a KMS", uri)
}
