// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package example

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
)

// Backend is a backend that does what its function says.
type Backend func(req csr.Request) ([]*x509.Certificate, error)

// Sign implements signer.Backend.
func (b Backend) Sign(_ context.Context, req csr.Request) ([]*x509.Certificate, error) { return b(req) }

// Honest signs what it is asked to.
func Honest(req csr.Request) ([]*x509.Certificate, error) {
	return []*x509.Certificate{Leaf(req, Intermediate, nil), Intermediate.Certificate}, nil
}

// Failing is a backend that does nothing but fail.
func Failing(err error) Backend {
	return func(csr.Request) ([]*x509.Certificate, error) { return nil, err }
}

// LeafOf is a backend that signs another leaf than the honest one.
func LeafOf(change func(*x509.Certificate)) Backend {
	return func(req csr.Request) ([]*x509.Certificate, error) {
		return []*x509.Certificate{Leaf(req, Intermediate, change), Intermediate.Certificate}, nil
	}
}

// Below is a backend whose leaf is signed by another CA, followed by these certificates.
func Below(by *CA, rest ...*x509.Certificate) Backend {
	return func(req csr.Request) ([]*x509.Certificate, error) {
		return append([]*x509.Certificate{Leaf(req, by, nil)}, rest...), nil
	}
}

// Anchored is a backend that knows its trust anchors.
type Anchored struct {
	Backend
	Anchors []*x509.Certificate
	Err     error
}

// TrustAnchors implements signer.TrustAnchorer.
func (a Anchored) TrustAnchors(context.Context) ([]*x509.Certificate, error) { return a.Anchors, a.Err }

// Able is a backend that has all that a Signer's status tells of. Wrong is what is the matter with it.
type Able struct {
	Anchored
	Wrong   error
	Expires time.Time
}

// Check implements signer.Checker.
func (a *Able) Check(context.Context) error { return a.Wrong }

// NotAfter implements signer.Expirer.
func (a *Able) NotAfter(context.Context) (time.Time, error) { return a.Expires, a.Err }

// NewAble returns an honest backend with these anchors.
func NewAble(expires time.Time, anchors ...*x509.Certificate) *Able {
	return &Able{Anchored: Anchored{Backend: Honest, Anchors: anchors}, Expires: expires}
}

// Backends are what the backends of Signers are, by name.
type Backends map[string]signer.Backend

// New is a signer.NewBackend.
func (b Backends) New(config signer.BackendConfig) (signer.Backend, error) {
	if found := b[config.Backend.Name]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("there is no backend %s", config.Backend.Name)
}
