// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/signer/breaker"
)

// maxAnchorBytes bounds what one backend may tell as its trust anchors, in DER: about what trustAnchors can hold in PEM. The bundles of all
// Signers may share one object, so one that tells more would take the room of the others.
const maxAnchorBytes = 48 << 10

// maxBackendMessage bounds the message of a backend's status in bytes.
const maxBackendMessage = 1024

// known is what is known of a backend and of the CA behind it.
type known struct {
	// anchors and notAfter are what the backend last told; anchorsErr is why it told no anchors now. None is true if it told that there
	// are none.
	anchors    []*x509.Certificate
	none       bool
	notAfter   time.Time
	anchorsErr error
	// warning is what a person should look at although the backend signs.
	warning error
	// rotated is what the backend last said of its CA, rotateErr why it could not take a step now.
	rotated   *Rotated
	rotateErr error
}

// inspect asks the backend what CA it has and, if it is time for that, whether it can sign. What it knew before it knows until it is
// told otherwise.
func (m *member) inspect(ctx context.Context, before v1alpha1.BackendStatus, published bool) {
	var both sync.WaitGroup
	both.Go(func() { m.learn(ctx) })
	both.Go(func() { m.probe(ctx) })
	both.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.known.anchors; published && len(m.trusted) == 0 && len(now) > 0 && Fingerprint(now[0]) == before.Root {
		m.trusted = now // by whoever ran before
	}
}

// probe checks the backend if it is time for that.
func (m *member) probe(ctx context.Context) {
	if m.clock.Now().Before(m.breaker.View().Next) {
		return
	}
	c, ok := m.backend.(Checker)
	if !ok {
		m.breaker.Try()
		return
	}
	_, err := aside(ctx, m, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Check(ctx) })
	var warning error
	if check := (*CheckError)(nil); errors.As(err, &check) && check.Signs {
		warning, err = err, nil
	}
	m.mu.Lock()
	m.known.warning = warning
	m.mu.Unlock()
	if ctx.Err() == nil {
		m.breaker.Probed(err)
	}
}

// learn asks the backend what CA it has.
func (m *member) learn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	anchors, err := m.anchors(ctx)
	var notAfter time.Time
	if e, ok := m.backend.(Expirer); ok {
		if at, err := aside(ctx, m, e.NotAfter); err == nil {
			notAfter = at
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.anchorsErr = err
	if err == nil && len(anchors) > 0 {
		if before := m.known.anchors; len(before) > 0 && !slices.EqualFunc(anchors, before, (*x509.Certificate).Equal) {
			m.breaker.Expedite() // another CA: it may have been down for its chains leading elsewhere
		}
		m.known.anchors = anchors
	}
	m.known.none = err == nil && len(m.known.anchors) == 0
	if !notAfter.IsZero() {
		m.known.notAfter = notAfter
	}
}

// errStuck is why a backend is asked nothing more.
var errStuck = errors.New("it has not answered what it was asked before")

// aside asks the backend something beside signing, with its timeout. One that keeps no context is not asked without end.
func aside[T any](ctx context.Context, m *member, ask func(context.Context) (T, error)) (T, error) {
	return asideFor(ctx, m, m.timeout, ask)
}

func asideFor[T any](ctx context.Context, m *member, limit time.Duration, ask func(context.Context) (T, error)) (answer T, err error) {
	select {
	case m.asides <- struct{}{}:
	default:
		return answer, errStuck
	}
	left, err := m.use()
	if err != nil {
		<-m.asides
		return answer, err
	}
	return await(ctx, limit, func() { <-m.asides; left() }, ask)
}

// anchors returns the trust anchors of the backend; none if nobody knows them.
func (m *member) anchors(ctx context.Context) ([]*x509.Certificate, error) {
	if len(m.configured) > 0 {
		return m.configured, nil
	}
	a, ok := m.backend.(TrustAnchorer)
	if !ok {
		return nil, nil
	}
	anchors, err := aside(ctx, m, a.TrustAnchors)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, c := range anchors {
		size += len(c.Raw)
	}
	if size > maxAnchorBytes {
		return nil, fmt.Errorf("it tells trust anchors of %d bytes, allowed are %d: set trustAnchors", size, maxAnchorBytes)
	}
	return anchors, nil
}

func (m *member) recall() known {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

// trust says that verifiers have the anchors.
func (m *member) trust(anchors []*x509.Certificate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusted = anchors
}

// errNoAnchors is a warning about a backend whose certificates the trust bundle does not cover.
var errNoAnchors = &CheckError{Reason: ReasonNoTrustAnchors, Err: errors.New("nobody knows its trust anchors, so the trust bundle does not cover what it signs: set trustAnchors"), Signs: true}

// status says what is known of the backend, and what is wrong with it. Bundled is true if there is a trust bundle, which should cover it.
// While recent is true, its words stay as they were before if they mean the same. What is known of its CA stays until verifiers have
// the anchors.
func (m *member) status(before v1alpha1.BackendStatus, bundled, recent bool) (s v1alpha1.BackendStatus, canSign bool, trouble error) {
	view, now := m.breaker.View(), m.recall()
	since := metav1.NewTime(view.Since.Truncate(time.Second))
	s = v1alpha1.BackendStatus{Name: m.name, State: v1alpha1.BackendState(view.State.String()), Since: &since, Root: before.Root, CANotAfter: before.CANotAfter}
	if view.First && before.State == s.State && before.Since != nil {
		s.Since = before.Since
	}
	m.caStatus(&s, before, now)
	trusted, unpublished := m.verifyWith()
	if unpublished == nil && len(trusted) > 0 {
		s.Root = Fingerprint(trusted[0])
		if !now.notAfter.IsZero() {
			s.CANotAfter = &metav1.Time{Time: now.notAfter.Truncate(time.Second)} // as precise as the API keeps it
		}
	}
	switch {
	case view.Reason != nil:
		trouble = view.Reason
	case unpublished != nil && now.anchorsErr != nil:
		trouble = fmt.Errorf("reading trust anchors: %w", now.anchorsErr) // with its reason
	case unpublished != nil:
		trouble = &CheckError{Reason: ReasonTrustNotPublished, Err: unpublished}
	case now.warning != nil:
		trouble = now.warning
	case now.rotateErr != nil:
		trouble = rotationTrouble(now.rotateErr)
	case len(trusted) == 0 && bundled:
		trouble = errNoAnchors
	}
	if trouble != nil {
		s.Reason, s.Message = reasonOf(trouble), excerpt.Line(trouble.Error(), maxBackendMessage)
	}
	if recent && before.State == s.State && before.Reason == s.Reason && before.Message != "" && s.Message != "" {
		s.Message = before.Message
	}
	return s, view.State != breaker.Down && unpublished == nil, trouble
}

// rotationTrouble is a warning, with its own reason if it has one.
func rotationTrouble(err error) error {
	if check := (*CheckError)(nil); errors.As(err, &check) {
		return err
	}
	return &CheckError{Reason: ReasonRotationTrouble, Err: err, Signs: true}
}

// reasonOf returns the reason of a condition for an error.
func reasonOf(err error) string {
	if check := (*CheckError)(nil); errors.As(err, &check) {
		return check.Reason
	}
	return ReasonBackendNotReady
}

// Fingerprint is the SHA-256 fingerprint of a certificate, in hexadecimal digits, by which a Signer's status and its annotations name CAs.
func Fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }
