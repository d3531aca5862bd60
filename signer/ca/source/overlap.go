// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/record"
	"github.com/certwright/certwright/signer/ca/rotation"
)

// Rotate implements signer.Rotator.
func (m *imported) Rotate(ctx context.Context, ask signer.Rotation) (signer.Rotated, error) {
	m.rotating.Lock()
	defer m.rotating.Unlock()
	m.mu.Lock()
	m.maxDuration = ask.MaxDuration
	if m.own.Owner == nil || m.own.Owner.UID != ask.Signer {
		m.own.Owner = &metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Signer", Name: m.options.Signer, UID: ask.Signer}
		m.written = nil // it may turn out to be somebody else's
	}
	m.mu.Unlock()
	l, err := m.Load(ctx, 0)
	if err != nil {
		return signer.Rotated{}, errors.Join(err, m.forget(ctx, err))
	}
	m.mu.Lock()
	a, r, before := m.latest, m.record, m.before
	m.mu.Unlock()
	facts := m.facts(ctx, r, ask)
	if a == nil || a.Check(facts.Now) != nil { // it is not to be waited for what cannot sign
		return m.rotated(l.Authority, r, facts), nil
	}
	next, err := m.step(a, r, before, ask, facts)
	if next == r {
		return m.rotated(l.Authority, r, facts), err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record == r { // else look again
		if err := m.write(ctx, next); err != nil {
			return m.rotated(l.Authority, r, facts), fmt.Errorf("writing down the roots of the CA: %w", err)
		}
	}
	if now, _, err := m.choose(facts.Now); err == nil { // another one may sign now
		l = m.overlap(CA{Authority: now}, facts.Now)
	}
	rotated := m.rotated(l.Authority, m.record, facts)
	rotated.Changed = true
	return rotated, nil
}

// forget drops the CA of before if whoever brought it has taken the Secret away, by the error of load.
func (m *imported) forget(ctx context.Context, err error) error {
	if ReasonOf(err) != reasonSecretNotFound {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.readRecord(ctx); err != nil || m.record == nil || m.record.Before == nil {
		return err
	}
	if err := m.write(ctx, m.record.Forget()); err != nil {
		return fmt.Errorf("forgetting the CA of before: %w", err)
	}
	return nil
}

// step returns what should be written down of a CA, where another one may have signed before: what is if nothing is to be done.
func (m *imported) step(a *authority.Authority, r *record.Record, before *authority.Authority, ask signer.Rotation, f rotation.Facts) (*record.Record, error) {
	if r == nil {
		return &record.Record{Current: a.Anchors, State: rotation.State{}.Raise(f.MaxDuration)}, nil
	}
	compromised := ask.Annotations[v1alpha1.AnnotationCompromisedRoot]
	f.Compromised = named(compromised, r.Roots()...)
	if f.Compromised && named(compromised, a.Anchors...) {
		return r, warning(reasonCompromisedRootInUse, "the root %s is said to be compromised, and is that of the CA in Secret %s: put another CA there", compromised, m.secret)
	}
	state := r.State
	switch known := a.LeadsTo(r.Current); {
	case f.Compromised:
	case known && (!record.Same(a.Anchors, r.Current) || len(r.Next) > 0 && !record.Same(a.Anchors, r.Next)): // or put back
		at, err := f.Agreed()
		if err != nil {
			return r, err
		}
		return r.Adopt(at, f.MaxDuration, a.Anchors), nil
	case !known && !record.Same(a.Anchors, r.Next):
		f.Due, state.Phase = true, ""
	}
	step, state, err := state.Next(f)
	if step == rotation.None || err != nil {
		return r, err
	}
	return r.Take(step, state, a.Anchors, before), nil
}

// facts gathers what decides about the next step.
func (m *imported) facts(ctx context.Context, r *record.Record, ask signer.Rotation) rotation.Facts {
	now := m.options.Clock.Now()
	return rotation.Facts{
		Now: now, Propagation: m.options.Config.TrustPropagation.Duration, MaxDuration: ask.MaxDuration,
		Seen:   func() (bool, error) { return seen(ctx, ask, record.Union(r.Current, r.Next), now) },
		Over:   func(until time.Time) bool { return m.watch.Over(m.options.Clock, until) },
		Time:   func() (time.Time, error) { return ask.Time(ctx) },
		Behind: func() bool { return ask.Behind(ctx) },
	}
}

// rotated says where the CA is, and when to look again.
func (m *imported) rotated(a *authority.Authority, r *record.Record, f rotation.Facts) signer.Rotated {
	rotated := signer.Rotated{Issuer: a.Cert}
	if r == nil || r.State.Phase == "" {
		return rotated
	}
	old, root := r.Old, r.Current
	if r.State.Phase == v1alpha1.RotationPublishing {
		old, root = r.Current, r.Next
	}
	if len(old) > 0 {
		rotated.Rotation = rotationStatus(r.State, f, old[0], first(record.Without(root, old), root))
	}
	rotated.Next = lookAgain(r.State, f)
	return rotated
}

// first returns the first certificate of all lists.
func first(lists ...[]*x509.Certificate) *x509.Certificate { return record.Union(lists...)[0] }
