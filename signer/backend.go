// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

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

// RenewalAdviser is a Backend that knows when a certificate should be renewed, such as by the renewal information of an ACME
// server (RFC 9773). The zero time is no advice.
type RenewalAdviser interface {
	RenewAt(ctx context.Context, leaf *x509.Certificate) (time.Time, error)
}

// PermanentError says that a backend will never sign this request, such as when the CA's name constraints forbid a name.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// PendingError says that a backend needs time for this request, and when to ask it again.
type PendingError struct {
	After  time.Duration
	Reason string
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("%s; asking again in %s", e.Reason, e.After)
}

// RequestError says that a backend is well but cannot sign this request now, for a reason that its requester may have a hand in,
// such as a name that cannot be validated yet. The next backend is asked, and this one again after some minutes; it is never
// taken out of service for it.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return e.Err.Error() }
func (e *RequestError) Unwrap() error { return e.Err }

// CheckError says why a backend cannot sign now. Reason is in CamelCase and fit for a condition, such as "CAExpired". Signs is true
// if the backend signs all the same, and only wants a person to look.
type CheckError struct {
	Reason string
	Err    error
	Signs  bool
}

func (e *CheckError) Error() string { return e.Err.Error() }
func (e *CheckError) Unwrap() error { return e.Err }
