// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package member

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/breaker"
	"github.com/certwright/certwright/signer/verify"
)

// ErrUnpublished is why a backend is not asked whose certificates nobody could verify.
var ErrUnpublished = errors.New("its trust anchors are not in the published trust bundle yet")

var errPanicked = errors.New("it panicked")

// BusyError is why a backend is not asked that others keep busy, or are trying.
type BusyError struct{ error }

// Sign asks the backend for certificates, and returns them verified. Whatever it is, it takes little longer than the timeout.
func (m *Member) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	done, err := m.breaker.Begin()
	if errors.Is(err, breaker.ErrTrying) {
		return nil, BusyError{err}
	} else if err != nil {
		return nil, err
	}
	said, why := breaker.Failure, errPanicked
	defer func() { done(said, why) }()
	if _, err := m.verifyWith(); err != nil {
		said = breaker.Nothing
		return nil, err
	}
	release, err := m.occupy(ctx, req)
	if err != nil {
		said = breaker.Nothing
		return nil, err
	}
	chain, err := await(ctx, m.timeout, release, func(ctx context.Context) ([]*x509.Certificate, error) {
		return m.backend.Sign(ctx, req)
	})
	if err == nil {
		chain, err = m.Verify(chain, req)
	}
	said, why = outcome(ctx, err), err
	return chain, err
}

// Verify checks a chain of the backend against the request and the anchors that verifiers have now.
func (m *Member) Verify(chain []*x509.Certificate, req csr.Request) ([]*x509.Certificate, error) {
	anchors, err := m.verifyWith()
	if err != nil {
		return nil, err
	}
	verified, err := verify.Chain(chain, anchors, req, m.clock.Now())
	if err != nil {
		return nil, fmt.Errorf("verifying the returned chain: %w", err)
	}
	return verified, nil
}

// verifyWith returns the anchors that the backend's chains must lead to: those that verifiers have. It is an error if they have none, unless
// the backend says that there are none.
func (m *Member) verifyWith() ([]*x509.Certificate, error) {
	_, tells := m.backend.(signer.TrustAnchorer)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(m.trusted) > 0 || !tells && len(m.configured) == 0 || m.known.none:
		return m.trusted, nil
	case m.known.anchorsErr != nil:
		return nil, fmt.Errorf("reading trust anchors: %v", m.known.anchorsErr) //nolint:errorlint // not wrapped: whatever it is, it is no verdict on a request
	}
	return nil, ErrUnpublished
}

// outcome says what a call tells about the backend. Nothing that a requester may have a hand in counts, so that nobody can take a
// backend from others, nor keep one in service that is broken.
func outcome(ctx context.Context, err error) breaker.Outcome {
	var permanent *signer.PermanentError
	var pending *signer.PendingError
	var own *signer.RequestError
	switch {
	case err == nil:
		return breaker.Success
	case ctx.Err() != nil, errors.As(err, &permanent), errors.As(err, &pending), errors.As(err, &own):
		return breaker.Nothing
	}
	return breaker.Failure
}

// occupy takes one of the places for calls, and keeps the backend from being closed, until release is called.
func (m *Member) occupy(ctx context.Context, req csr.Request) (release func(), err error) {
	leave, err := m.places.Take(ctx, fair.Requester(req.Requester.Username), queueing)
	if errors.Is(err, fair.ErrNoPlace) {
		return nil, BusyError{errors.New("it is busy with other requests")}
	} else if err != nil {
		return nil, err
	}
	left, err := m.use()
	if err != nil {
		leave()
		return nil, err
	}
	return func() {
		leave()
		left()
	}, nil
}

// SignsPods reports whether the backend can sign what kubelets ask for.
func (m *Member) SignsPods() bool {
	p, ok := m.backend.(signer.PodSigner)
	return ok && p.SignsPods()
}

// Holds asks the backend whether it has begun with a request, as far as it can tell.
func (m *Member) Holds(ctx context.Context, req csr.Request) bool {
	h, ok := m.backend.(signer.Holder)
	if !ok {
		return false
	}
	left, err := m.use()
	if err != nil {
		return false
	}
	holds, err := await(ctx, m.timeout, left, func(ctx context.Context) (bool, error) { return h.Holds(ctx, req) })
	if err != nil {
		logf.FromContext(ctx).Error(err, "asking whether a backend has begun with the request", "backend", m.name)
	}
	return holds
}

// advising is how long a backend may take to say when a certificate should be renewed.
const advising = 2 * time.Second

// RenewAt asks the backend when a leaf of it should be renewed. Without good advice it is zero.
func (m *Member) RenewAt(ctx context.Context, leaf *x509.Certificate) time.Time {
	adviser, ok := m.backend.(signer.RenewalAdviser)
	if !ok {
		return time.Time{}
	}
	ctx, cancel := context.WithTimeout(ctx, advising)
	defer cancel()
	at, err := aside(ctx, m, func(ctx context.Context) (time.Time, error) { return adviser.RenewAt(ctx, leaf) })
	switch {
	case err != nil:
		logf.FromContext(ctx).Info("the backend does not say when to renew", "backend", m.name, "reason", err.Error())
	case at.IsZero(), !at.After(leaf.NotBefore), !at.Before(leaf.NotAfter):
	default:
		return at
	}
	return time.Time{}
}
