// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/signer/breaker"
)

const (
	// atOnce is how many calls a backend gets at the same time, so that a slow one does not hold all workers. A requester alone gets half
	// of them, so that one whose requests are slow leaves places for others.
	atOnce = 16
	// asidesAtOnce is how many calls it gets beside those that sign.
	asidesAtOnce = 2 * atOnce
	// queueing is how long a call waits for one of the others to return. It is longer than a backend takes that is well, and no burden
	// for a request that goes on to the next one.
	queueing = 100 * time.Millisecond
	// defaultTimeout holds where the API server's default did not.
	defaultTimeout = 5 * time.Second
	// grace is how much later than its context a call may return before nobody listens to it any more.
	grace = 200 * time.Millisecond
)

// member is a backend in the service of a Signer, with what keeps it from harming others. It lives as long as its configuration
// does not change, whatever else of the Signer does.
type member struct {
	backend Backend
	name    string
	config  BackendConfig
	clock   clock.PassiveClock
	timeout time.Duration
	places  *fair.Places  // for calls of Sign
	asides  chan struct{} // for all other calls
	breaker *breaker.Breaker
	// configured are the trust anchors that the configuration names, in place of what the backend tells.
	configured []*x509.Certificate

	mu     sync.Mutex
	calls  int
	closed bool
	// known is what is known of the backend and its CA, trusted those of its anchors that verifiers have.
	known   known
	trusted []*x509.Certificate
}

// newMember makes the backend of a configuration at the path. The errors are about its fields.
func newMember(config BackendConfig, by maker, path *field.Path) (*member, field.ErrorList) {
	var errs field.ErrorList
	m := &member{
		name: config.Backend.Name, config: config, clock: by.clock, timeout: config.Backend.Timeout.Duration,
		places: fair.NewPlaces(atOnce), asides: make(chan struct{}, asidesAtOnce), breaker: breaker.New(by.clock, func(from, to breaker.State) { by.onChange(config.Backend.Name, from, to) }),
	}
	if m.timeout <= 0 {
		m.timeout = defaultTimeout
	}
	if text := config.Backend.TrustAnchors; text != "" {
		var err error
		if m.configured, err = parseAnchors(text); err != nil {
			errs = append(errs, field.Invalid(path.Child("trustAnchors"), field.OmitValueType{}, err.Error()))
		}
	}
	var err error
	if m.backend, err = by.newBackend(config); err != nil {
		m.backend = nil // an interface that holds a nil pointer is not nil
		errs = append(errs, field.Invalid(path, config.Backend.Name, err.Error()))
	}
	return m, errs
}

// parseAnchors reads trust anchors in PEM: CA certificates, as nothing else is published.
func parseAnchors(text string) ([]*x509.Certificate, error) {
	anchors, err := ParsePEM([]byte(text))
	if err != nil {
		return nil, err
	}
	for i, c := range anchors {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("certificate %d (%s) is no CA certificate: only those can be trust anchors", i+1, c.Subject)
		}
	}
	return anchors, nil
}

// errUnpublished is why a backend is not asked whose certificates nobody could verify.
var errUnpublished = errors.New("its trust anchors are not in the published trust bundle yet")

var errPanicked = errors.New("it panicked")

// busyError is why a backend is not asked that others keep busy, or are trying.
type busyError struct{ error }

// sign asks the backend for certificates, and returns them verified. Whatever it is, it takes little longer than the timeout.
func (m *member) sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	done, err := m.breaker.Begin()
	if errors.Is(err, breaker.ErrTrying) {
		return nil, busyError{err}
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
		chain, err = m.verify(chain, req)
	}
	said, why = outcome(ctx, err), err
	return chain, err
}

// verify checks a chain of the backend against the request and the anchors that verifiers have now.
func (m *member) verify(chain []*x509.Certificate, req csr.Request) ([]*x509.Certificate, error) {
	anchors, err := m.verifyWith()
	if err != nil {
		return nil, err
	}
	verified, err := Verify(chain, anchors, req, m.clock.Now())
	if err != nil {
		return nil, fmt.Errorf("verifying the returned chain: %w", err)
	}
	return verified, nil
}

// verifyWith returns the anchors that the backend's chains must lead to: those that verifiers have. It is an error if they have none, unless
// the backend says that there are none.
func (m *member) verifyWith() ([]*x509.Certificate, error) {
	_, tells := m.backend.(TrustAnchorer)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(m.trusted) > 0 || !tells && len(m.configured) == 0 || m.known.none:
		return m.trusted, nil
	case m.known.anchorsErr != nil:
		return nil, fmt.Errorf("reading trust anchors: %v", m.known.anchorsErr) //nolint:errorlint // not wrapped: whatever it is, it is no verdict on a request
	}
	return nil, errUnpublished
}

// outcome says what a call tells about the backend. Nothing that a requester may have a hand in counts, so that nobody can take a
// backend from others, nor keep one in service that is broken.
func outcome(ctx context.Context, err error) breaker.Outcome {
	var permanent *PermanentError
	var pending *PendingError
	var own *RequestError
	switch {
	case err == nil:
		return breaker.Success
	case ctx.Err() != nil, errors.As(err, &permanent), errors.As(err, &pending), errors.As(err, &own):
		return breaker.Nothing
	}
	return breaker.Failure
}

// occupy takes one of the places for calls, and keeps the backend from being closed, until release is called.
func (m *member) occupy(ctx context.Context, req csr.Request) (release func(), err error) {
	leave, err := m.places.Take(ctx, fair.Requester(req.Requester.Username), queueing)
	if errors.Is(err, fair.ErrNoPlace) {
		return nil, busyError{errors.New("it is busy with other requests")}
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

// errGone is what calls get that come when the backend is no longer used.
var errGone = errors.New("it was changed or removed just now")

// use has the backend live until left is called.
func (m *member) use() (left func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errGone
	}
	m.calls++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.calls--; m.calls == 0 && m.closed {
			m.closeBackend()
		}
	}, nil
}

// close has no new calls begin, and closes the backend when the last one has returned. It does not wait for that.
func (m *member) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && m.calls == 0 {
		m.closeBackend()
	}
	m.closed = true
}

func (m *member) closeBackend() {
	if c, ok := m.backend.(io.Closer); ok {
		_ = c.Close() // nobody could do anything about an error
	}
}
