// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/certwright/certwright/signer/ca/device"
)

func TestAnotherKey(t *testing.T) {
	m, other := newMachine(t), newMachine(t)
	for name, k := range map[string]*device.Key{
		"says so": device.New(device.Options{Open: m.open, Public: other.Public()}),
		"lies": device.New(device.Options{Public: other.Public(), Open: func(context.Context) (crypto.Signer, error) {
			return liar{m.Signer, other.Public()}, nil
		}}),
		"of another kind": device.New(device.Options{Open: m.open, Public: rsaKey(t).Public()}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := sign(t.Context(), k); err == nil {
				t.Error("a wrong key signed")
			}
			wantReason(t, k.Check(t.Context()), "KeyMismatch")
		})
	}
}

type liar struct {
	crypto.Signer
	public crypto.PublicKey
}

func (l liar) Public() crypto.PublicKey { return l.public }

// Google's KMS binds a key to one algorithm.
func TestAlgorithmOfTheKey(t *testing.T) {
	key := rsaKey(t)
	for _, algorithm := range []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	} {
		k := device.New(device.Options{Public: key.Public(), Open: func(context.Context) (crypto.Signer, error) {
			return bound{key, algorithm}, nil
		}})
		if err := k.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if got := k.Signer(t.Context()).(interface {
			SignatureAlgorithm() x509.SignatureAlgorithm
		}).SignatureAlgorithm(); got != algorithm {
			t.Errorf("the key signs with %s, want %s", got, algorithm)
		}
	}
}

// bound is a key that signs with one algorithm only.
type bound struct {
	crypto.Signer
	algorithm x509.SignatureAlgorithm
}

func (b bound) SignatureAlgorithm() x509.SignatureAlgorithm { return b.algorithm }

func (b bound) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	_, pss := opts.(*rsa.PSSOptions)
	if want := strings.Contains(b.algorithm.String(), "PSS"); pss != want {
		return nil, errors.New("the key is bound to another padding")
	}
	return b.Signer.Sign(random, digest, opts)
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
