// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/entry"
	"github.com/certwright/certwright/signer/ca/managed"
	"github.com/certwright/certwright/signer/ca/rotation"
	"github.com/certwright/certwright/signer/ca/store"
)

// annotationNewCA on a Signer holds the fingerprint of a lost root that a new one may take the place of.
const annotationNewCA = "certwright.dev/new-ca"

// renewalPause is the time between two attempts to renew an intermediate, so that an API server in trouble is not asked at
// every signature.
const renewalPause = time.Minute

// attempts is how often a write is tried that another one came before.
const attempts = 3

// made is a CA that this package made: root, intermediate and all that is known of them are in one Secret.
type made struct {
	options Options
	config  managed.Config

	// mu is held while the Secret is read, which is from memory but for the moments in which it is written.
	mu  sync.Mutex
	own *store.Store
	keeper
	secret *corev1.Secret // that ca was read from
	ca     *managed.CA    // nil if the Secret is broken or lost
	// longest is the longest lifetime that was written down, maxDuration the longest that may be granted now, if that is known.
	longest, maxDuration time.Duration
	renewAfter           time.Time // no attempt to renew before then
	renewErr             error     // why the last attempt did not work

	// rotating is held by the one who rotates.
	rotating sync.Mutex
	watch    rotation.Watch
}

func newMade(o Options) (*made, error) {
	config, err := managed.NewConfig(*o.CA.Managed, o.SignerName, o.IsCA, o.Rand)
	if err != nil {
		return nil, err
	}
	return &made{options: o, config: config, own: store.New(
		o.Client, o.Reader, client.ObjectKey{Namespace: o.Namespace, Name: SecretName(o.Signer, o.Backend)}, o.SignerName)}, nil
}

// load implements source.
func (m *made) load(ctx context.Context, lifetime time.Duration) (l loaded, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.options.Clock.Now()
	if err := m.refresh(ctx, now, lifetime); err != nil {
		return l, err
	}
	m.renew(ctx, now)
	if l.lifetime, err = m.grant(ctx, lifetime); err != nil {
		return l, err
	}
	if l.authority, l.warn, err = m.choose(now); err != nil {
		return l, err
	}
	if l.warn == nil && m.renewErr != nil {
		l.warn = warning(reasonIntermediateNotRenewing, "%w; the CA certificate %s signs until %s", m.renewErr, l.authority.Cert.Subject, rfc3339(l.authority.NotAfter))
	}
	l.anchors = l.authority.Anchors
	return l, nil
}

// refresh takes in what the Secret holds now. If there is none, and may be one, it is made. The error says that nothing can be known.
func (m *made) refresh(ctx context.Context, now time.Time, lifetime time.Duration) error {
	secret, err := m.own.Get(ctx)
	if apierrors.IsNotFound(err) {
		secret, err = m.begin(ctx, now, lifetime)
	}
	if gone := (*signer.CheckError)(nil); errors.As(err, &gone) {
		m.secret, m.ca, m.renewErr = nil, nil, nil
		m.take("", nil, err)
		return nil
	} else if err != nil {
		return err
	}
	m.parse(secret)
	return nil
}

// begin makes a CA if there may be one. A *signer.CheckError says why not.
func (m *made) begin(ctx context.Context, now time.Time, lifetime time.Duration) (*corev1.Secret, error) {
	if err := m.mayBegin(ctx, now); err != nil {
		return nil, err
	}
	data, err := m.config.New(now, max(lifetime, m.maxDuration))
	if err != nil {
		return nil, fmt.Errorf("making the CA for Secret %s: %w", m.own.Key, err)
	}
	return m.own.Create(ctx, data)
}

// mayBegin returns nil if a managed CA may be made: there was none, or its time is over, or a person wants another one. A new
// root takes the place of the old one in the trust bundle, which breaks everybody who has certificates of the old one, so the
// loss of a Secret alone is not enough. That word is spoken about one CA by its fingerprint, and means nothing to the next.
func (m *made) mayBegin(ctx context.Context, now time.Time) error {
	var object v1alpha1.Signer
	if err := m.options.Reader.Get(ctx, client.ObjectKey{Name: m.options.Signer}, &object); err != nil {
		return fmt.Errorf("reading Signer %s, to see whether there was a CA: %w", m.options.Signer, err)
	}
	for _, known := range object.Status.Backends {
		if known.Name != m.options.Backend || known.CANotAfter == nil || !known.CANotAfter.After(now) || object.Annotations[annotationNewCA] == known.Root {
			continue
		}
		return authority.Unusable(reasonCASecretLost, "Secret %s does not exist, but the CA that this backend had is in use until %s: restore the Secret from a backup or, "+
			"to start over with a new root, which everyone who verifies must then learn to trust, run %s",
			m.own.Key, rfc3339(known.CANotAfter.Time), m.command(annotationNewCA, known.Root))
	}
	return nil
}

// command is what a person runs to say something about a root.
func (m *made) command(annotation, root string) string {
	return fmt.Sprintf("kubectl annotate --overwrite signers.certwright.dev %s %s=%s", m.options.Signer, annotation, root)
}

// parse takes in a version of the Secret, unless it is the one that was taken in last.
func (m *made) parse(secret *corev1.Secret) {
	if store.Version(secret) == m.version {
		return
	}
	err := m.own.CheckOwner(secret)
	var ca *managed.CA
	if err == nil {
		ca, err = managed.Parse(secret.Data)
	}
	if err != nil {
		m.secret, m.ca, m.renewErr = nil, nil, nil
		m.take(store.Version(secret), nil, describe(m.own.Key, err, "; restore the Secret from a backup, or delete it, and this condition will say how to start over with a new root"))
		return
	}
	ca.Authority.Remedy = "to get a new root, which everyone who verifies must then learn to trust, run " + m.command(v1alpha1.AnnotationCompromisedRoot, signer.Fingerprint(ca.Root))
	m.secret, m.ca, m.longest = secret, ca, time.Duration(ca.State.Longest)
	m.take(store.Version(secret), ca.Authority, nil)
}

// describe says of which Secret an error is, and what to do.
func describe(secret client.ObjectKey, err error, advice string) error {
	if check := (*signer.CheckError)(nil); errors.As(err, &check) {
		return authority.Unusable(check.Reason, "Secret %s: %w%s", secret, err, advice)
	}
	return err
}

// renew replaces the intermediate if it is time for that.
func (m *made) renew(ctx context.Context, now time.Time) {
	switch {
	case m.ca == nil || !m.ca.RenewalDue(now):
		m.renewErr = nil
	case m.renewErr == nil || !now.Before(m.renewAfter):
		m.renewAfter = now.Add(renewalPause)
		data, err := m.ca.Take(m.config, rotation.Renew, m.ca.State, now)
		if err == nil {
			err = m.write(ctx, m.secret, data)
		}
		if m.renewErr = err; err != nil {
			m.renewErr = fmt.Errorf("renewing the intermediate: %w", err)
		}
	}
}

// write puts the entries into the Secret that was read, and takes in what it holds then: something else, if it was not mine that came first.
func (m *made) write(ctx context.Context, secret *corev1.Secret, data entry.Data) error {
	now, err := m.own.Update(ctx, secret, data)
	if err == nil {
		m.parse(now)
	}
	return err
}

// grant writes down that a certificate may live that long. Where nothing can be written, as the last good CA signs, it may not live longer
// than what is written down.
func (m *made) grant(ctx context.Context, lifetime time.Duration) (time.Duration, error) {
	for range attempts {
		if lifetime <= m.longest || m.ca == nil {
			break
		}
		data, err := m.ca.Take(m.config, rotation.Raise, m.ca.State.Raise(max(lifetime, m.maxDuration)), time.Time{})
		if err == nil {
			err = m.write(ctx, m.secret, data)
		}
		if err != nil {
			return 0, fmt.Errorf("writing down that a certificate lives for %s: %w", lifetime, err)
		}
	}
	switch {
	case lifetime <= m.longest:
		return lifetime, nil
	case m.ca != nil:
		return 0, fmt.Errorf("writing down that a certificate lives for %s: Secret %s changes all the time", lifetime, m.own.Key)
	}
	return m.longest, nil
}

// Rotate implements signer.Rotator.
func (m *made) Rotate(ctx context.Context, ask signer.Rotation) (signer.Rotated, error) {
	m.rotating.Lock()
	defer m.rotating.Unlock()
	m.mu.Lock()
	m.maxDuration = ask.MaxDuration
	m.mu.Unlock()
	if _, err := m.load(ctx, 0); err != nil {
		return signer.Rotated{}, err
	}
	m.mu.Lock()
	secret, ca, broken := m.secret, m.ca, m.broken
	m.mu.Unlock()
	if ca == nil {
		return signer.Rotated{}, broken
	}
	facts := m.facts(ctx, ca, ask)
	step, state, err := ca.State.Next(facts)
	if step == rotation.None || err != nil {
		return m.rotated(ca, facts), err
	}
	data, err := ca.Take(m.config, step, state, facts.Now) // which may take long, as it makes keys
	if err != nil {
		return m.rotated(ca, facts), err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.write(ctx, secret, data); err != nil {
		return m.rotated(ca, facts), fmt.Errorf("replacing the CA: %w", err)
	}
	if m.ca == nil {
		return signer.Rotated{}, m.broken
	}
	r := m.rotated(m.ca, facts)
	r.Changed = true
	return r, nil
}

// facts gathers what decides about the next step.
func (m *made) facts(ctx context.Context, ca *managed.CA, ask signer.Rotation) rotation.Facts {
	now, propagation := m.options.Clock.Now(), m.options.CA.TrustPropagation.Duration
	due := rotation.Due(ca.Root.NotBefore, ca.Root.NotAfter, propagation)
	asked := ask.Annotations[v1alpha1.AnnotationRotateRoot] == signer.Fingerprint(ca.Root)
	f := rotation.Facts{
		Now: now, Propagation: propagation, MaxDuration: ask.MaxDuration,
		// A CA whose time is over needs a person: a clock that is wrong by years must not replace it.
		Due:         (asked || !now.Before(due)) && ca.Authority.Check(now) == nil,
		Renew:       ask.Annotations[v1alpha1.AnnotationRotateIntermediate] == signer.Fingerprint(ca.Authority.Cert),
		Compromised: named(ask.Annotations[v1alpha1.AnnotationCompromisedRoot], ca.Root, ca.Next, ca.Old),
		Seen:        func() (bool, error) { return seen(ctx, ask, ca.Authority.Anchors, now) },
		Over:        func(until time.Time) bool { return m.watch.Over(m.options.Clock, until) },
		Time:        func() (time.Time, error) { return ask.Time(ctx) },
		Behind:      func() bool { return ask.Behind(ctx) },
	}
	if ca.Old != nil {
		f.OldNotAfter = ca.Old.NotAfter
	}
	return f
}

// rotated says where the CA is, and when to look again.
func (m *made) rotated(ca *managed.CA, f rotation.Facts) signer.Rotated {
	r := signer.Rotated{Issuer: ca.Authority.Cert}
	switch ca.State.Phase {
	case v1alpha1.RotationPublishing:
		r.Rotation = rotationStatus(ca.State, f, ca.Root, ca.Next)
	case v1alpha1.RotationSigning:
		if f.OldNotAfter.IsZero() { // it was not there when they were gathered
			f.OldNotAfter = ca.Old.NotAfter
		}
		r.Rotation = rotationStatus(ca.State, f, ca.Old, ca.Root)
	default:
		if due := rotation.Due(ca.Root.NotBefore, ca.Root.NotAfter, f.Propagation); due.After(f.Now) { // else something is in the way
			r.Next = due
		}
		return r
	}
	r.Next = lookAgain(ca.State, f)
	return r
}
