// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package member

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
)

// maxAnchorBytes bounds what one backend may tell as its trust anchors, in DER: about what trustAnchors can hold in PEM. The bundles of all
// Signers may share one object, so one that tells more would take the room of the others.
const maxAnchorBytes = 48 << 10

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
	rotated   *signer.Rotated
	rotateErr error
}

// Inspect asks the backend what CA it has and, if it is time for that, whether it can sign. What it knew before it knows until it is
// told otherwise.
func (m *Member) Inspect(ctx context.Context, before v1alpha1.BackendStatus, published bool) {
	var both sync.WaitGroup
	both.Go(func() { m.learn(ctx) })
	both.Go(func() { m.probe(ctx) })
	both.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.known.anchors; published && len(m.trusted) == 0 && len(now) > 0 && signer.Fingerprint(now[0]) == before.Root {
		m.trusted = now // by whoever ran before
	}
}

// probe checks the backend if it is time for that.
func (m *Member) probe(ctx context.Context) {
	if m.clock.Now().Before(m.breaker.View().Next) {
		return
	}
	c, ok := m.backend.(signer.Checker)
	if !ok {
		m.breaker.Try()
		return
	}
	_, err := aside(ctx, m, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Check(ctx) })
	var warning error
	if check := (*signer.CheckError)(nil); errors.As(err, &check) && check.Signs {
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
func (m *Member) learn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	anchors, err := m.askAnchors(ctx)
	var notAfter time.Time
	if e, ok := m.backend.(signer.Expirer); ok {
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

// askAnchors returns the trust anchors of the backend; none if nobody knows them.
func (m *Member) askAnchors(ctx context.Context) ([]*x509.Certificate, error) {
	if len(m.configured) > 0 {
		return m.configured, nil
	}
	a, ok := m.backend.(signer.TrustAnchorer)
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

func (m *Member) recall() known {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

// Anchors returns the trust anchors that the backend last told; none if it never did. They are not to be modified.
func (m *Member) Anchors() []*x509.Certificate { return m.recall().anchors }

// Rotated returns what the backend last said of its CA; nil if it never did.
func (m *Member) Rotated() *signer.Rotated { return m.recall().rotated }

// Trust says that verifiers have the anchors.
func (m *Member) Trust(anchors []*x509.Certificate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusted = anchors
}

// rotating is how long a step of a rotation may take: it may make several RSA keys.
const rotating = 30 * time.Second

// Rotate has the backend take the step that is due. What it said before it says until it says something else.
func (m *Member) Rotate(ctx context.Context, ask signer.Rotation) {
	b, ok := m.backend.(signer.Rotator)
	if !ok {
		return
	}
	rotated, err := asideFor(ctx, m, rotating, func(ctx context.Context) (signer.Rotated, error) { return b.Rotate(ctx, ask) })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.rotateErr = err
	switch before := m.known.rotated; {
	case rotated.Issuer != nil:
		m.known.rotated = &rotated
	case before != nil:
		m.known.rotated = &signer.Rotated{Issuer: before.Issuer, Rotation: before.Rotation}
	}
}
