// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certwright/certwright/csr"
)

// Backend turns a permitted request into certificates.
//
// Sign returns the chain, leaf first, without the root unless the root signed the leaf and is asked for by the backend's
// configuration. The request's Duration is the lifetime that was granted: the leaf may live shorter, never longer. Signing
// the same request twice is safe. The error is a *PermanentError for what can never succeed, a *PendingError for what
// needs time, and anything else for trouble, which is tried again with backoff.
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

// CheckError says why a backend cannot sign now. Reason is in CamelCase and fit for a condition, such as "CAExpired".
type CheckError struct {
	Reason string
	Err    error
}

func (e *CheckError) Error() string { return e.Err.Error() }
func (e *CheckError) Unwrap() error { return e.Err }
