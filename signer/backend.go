// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package signer is the contract between the signer and its backends: what a Backend does, what more some of them can do, the errors by which
// they say whose trouble it is, and what they are made from. Who keeps to it may be asked for certificates by issue, is kept from harming
// others by member, and is checked by signertest.
package signer

import (
	"context"
	"crypto/x509"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// BackendConfig is all that a backend is made from.
type BackendConfig struct {
	// Signer is the name of the Signer, SignerName its spec.signerName.
	Signer, SignerName string
	// IsCA is the Signer's limit of that name.
	IsCA bool
	// Backend is the backend's entry in the Signer.
	Backend v1alpha1.Backend
}

// NewBackend makes a backend. It is the one place that knows all kinds of backends.
type NewBackend func(BackendConfig) (Backend, error)

// Backend turns a permitted request into certificates.
//
// Sign returns the chain, leaf first, without the root unless the root signed the leaf and is asked for by the backend's
// configuration. The request's Duration is the lifetime that was granted: the leaf may live shorter, never longer. Signing
// the same request twice is safe. The error is a *PermanentError for what can never succeed, a *PendingError for what
// needs time, a *RequestError for trouble that is this request's alone, and anything else for trouble of the backend, which is
// tried again with backoff.
//
// Sign keeps to ctx, which ends at the backend's timeout, and is called by many at once. A Backend that is an io.Closer is closed
// when its Signer no longer uses it, after its last call returned.
//
// A backend never touches the status of a request, and never decides whether a request is permitted.
type Backend interface {
	Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error)
}

// Checker is a Backend that knows, without signing, whether it could. Check returns nil if so, or why not; a *CheckError
// names the reason as a condition does.
type Checker interface {
	Check(ctx context.Context) error
}

// TrustAnchorer is a Backend that knows the certificates which those who verify its leaves must trust.
type TrustAnchorer interface {
	TrustAnchors(ctx context.Context) ([]*x509.Certificate, error)
}

// Expirer is a Backend that knows when the CA certificate that it signs with expires.
type Expirer interface {
	NotAfter(ctx context.Context) (time.Time, error)
}

// Rotator is a Backend that says what CA certificate it signs with, and may replace its root by another one in phases. Rotate takes the
// one step that is due, if there is one, and says where that leads to, as far as it is known also if there is an error. Only the
// one process that leads calls it.
type Rotator interface {
	Rotate(ctx context.Context, ask Rotation) (Rotated, error)
}

// Rotation is what a Rotator is told of its Signer.
type Rotation struct {
	// Signer is the UID of the Signer.
	Signer types.UID
	// Annotations of the Signer, by which people speak to its backends.
	Annotations map[string]string
	// MaxDuration is the longest lifetime that the Signer grants.
	MaxDuration time.Duration
	// Published returns the trust bundle as it is in the cluster now.
	Published func(ctx context.Context) ([]*x509.Certificate, error)
	// Behind returns whether that, or what is about to be published, has not reached all places yet where pods read it.
	Behind func(ctx context.Context) bool
	// Time returns what the API server's clock says.
	Time func(ctx context.Context) (time.Time, error)
}

// Rotated is what a Rotator says of its CA.
type Rotated struct {
	// Issuer is the CA certificate that signs.
	Issuer *x509.Certificate
	// Rotation says how far the replacement of the root is; nil while none is under way.
	Rotation *v1alpha1.Rotation
	// Changed is true if a step was taken.
	Changed bool
	// Next is when another step may be due; zero if that is not known.
	Next time.Time
}

// Holder is a Backend that can tell, without asking its server, whether it has begun with a request, such as by an order that it
// keeps in a Secret. Such a request stays with it also after a restart.
type Holder interface {
	Holds(ctx context.Context, req csr.Request) (bool, error)
}

// PodSigner is a Backend that can sign what kubelets ask for (csr.Request.ForPod): from the fields of the request alone. One that is no
// PodSigner is never asked to.
type PodSigner interface {
	SignsPods() bool
}

// RenewalAdviser is a Backend that knows when a certificate should be renewed, such as by the renewal information of an ACME
// server (RFC 9773). The zero time is no advice.
type RenewalAdviser interface {
	RenewAt(ctx context.Context, leaf *x509.Certificate) (time.Time, error)
}
