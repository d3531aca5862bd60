// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/device"
	"github.com/certwright/certwright/signer/ca/keyuri"
	"github.com/certwright/certwright/signer/ca/source"
	"github.com/certwright/certwright/signer/remote"
)

// configureKey takes in a CA whose key is kept outside Kubernetes. All of it but the PIN is in the configuration, so its trust
// anchors are known whatever the device does. The error begins with the field below ca.key, and never holds the URI.
func (b *Backend) configureKey(k v1alpha1.CAKey) error {
	if b.options.OpenKey == nil {
		return errors.New(": this program cannot open keys outside Kubernetes: run signer and webhook from the image certwright-kms")
	}
	uri, err := keyuri.Parse(k.URI)
	if err != nil {
		return fmt.Errorf(".uri: %w", err)
	}
	_, token := uri.(*keyuri.PKCS11)
	switch {
	case k.PINRef != nil && !token:
		return errors.New(".pinRef: only tokens of PKCS #11 have a PIN: in a cloud, the pod's own identity counts")
	case k.PINRef != nil:
		if err := remote.CheckRef(*k.PINRef, ".pinRef"); err != nil {
			return err
		}
	}
	chain, err := signer.ParsePEM([]byte(k.Chain))
	if err != nil {
		return fmt.Errorf(".chain: %w", err)
	}
	var check *signer.CheckError
	a, err := authority.New(chain, nil, nil)
	if errors.As(err, &check) && check.Reason == authority.ReasonNoTrustAnchor {
		last := chain[len(chain)-1]
		return fmt.Errorf(".chain: the last certificate (%s) is issued by %s: append the chain up to its self-signed root", last.Subject, last.Issuer)
	} else if err != nil {
		return fmt.Errorf(".chain: %w", err)
	}
	a.Remedy = "put the certificate of a new CA into ca.key.chain"
	b.source = fixed{a}
	b.outside = device.New(device.Options{
		Public: a.Cert.PublicKey, Clock: b.options.Clock,
		Open: func(ctx context.Context) (crypto.Signer, error) {
			return b.openKey(ctx, uri, k.PINRef, a.Cert.PublicKey)
		},
	})
	return nil
}

// fixed is a CA that is in the configuration. Who replaces it puts the root of the next one into the trust bundle before.
type fixed struct{ authority *authority.Authority }

// Load implements source.Source.
func (f fixed) Load(_ context.Context, lifetime time.Duration) (source.CA, error) {
	return source.CA{Authority: f.authority, Anchors: f.authority.Anchors, Lifetime: lifetime}, nil
}

// Rotate implements signer.Rotator.
func (f fixed) Rotate(context.Context, signer.Rotation) (signer.Rotated, error) {
	return signer.Rotated{Issuer: f.authority.Cert}, nil
}

// openKey opens the key with the PIN that the Secret holds now.
func (b *Backend) openKey(ctx context.Context, uri keyuri.URI, ref *v1alpha1.SecretKeyRef, public crypto.PublicKey) (crypto.Signer, error) {
	var pin []byte
	if ref != nil {
		var err error
		if pin, err = (remote.Secrets{Reader: b.options.Client, Namespace: b.options.Namespace}).Entry(ctx, *ref); err != nil {
			return nil, err
		}
	}
	return b.options.OpenKey(ctx, uri, string(pin), public)
}

// signWith returns what signs for an authority.
func (b *Backend) signWith(ctx context.Context, a *authority.Authority) crypto.Signer {
	if b.outside != nil {
		return b.outside.Signer(ctx)
	}
	return a.Key
}
