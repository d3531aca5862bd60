// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package source

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
	"github.com/certwright/certwright/signer/secretname"
)

// annotationNewCA on a Signer holds the fingerprint of a lost root that a new one may take the place of.
const annotationNewCA = "certwright.dev/new-ca"

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
	absent               bool // there is no CA, and one may be made

	// rotating is held by the one who rotates.
	rotating sync.Mutex
	watch    rotation.Watch
}

// NewManaged returns a CA that Certwright makes. The error begins with the field below managed.
func NewManaged(o Options) (Source, error) {
	config, err := managed.NewConfig(*o.Config.Managed, o.SignerName, o.IsCA, o.Rand)
	if err != nil {
		return nil, err
	}
	return &made{options: o, config: config, own: store.New(
		o.Client, o.Reader, client.ObjectKey{Namespace: o.Namespace, Name: secretname.CA.Of(o.Signer, o.Backend)}, o.SignerName)}, nil
}

// Load implements Source.
func (m *made) Load(ctx context.Context, lifetime time.Duration) (l CA, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.options.Clock.Now()
	if err := m.refresh(ctx, now); err != nil {
		return l, err
	}
	if l.Lifetime, err = m.grant(ctx, lifetime); err != nil {
		return l, err
	}
	if l.Authority, l.Warn, err = m.choose(now); err != nil {
		return l, err
	}
	l.Anchors = l.Authority.Anchors
	return l, nil
}

// refresh takes in what the Secret holds now. The error says that nothing can be known.
func (m *made) refresh(ctx context.Context, now time.Time) error {
	secret, err := m.own.Get(ctx)
	if err == nil {
		m.parse(secret)
		return nil
	}
	absent := false
	if apierrors.IsNotFound(err) {
		absent, err = m.missing(ctx, now)
	}
	if gone := (*signer.CheckError)(nil); !errors.As(err, &gone) {
		return err
	}
	m.secret, m.ca, m.absent = nil, nil, absent
	m.take("", nil, err)
	return nil
}

// missing says, by a *signer.CheckError, what it means that there is no Secret. A CA is absent, and may be made, if there was none, if its
// time is over, or if a person wants another one. A new root takes the place of the old one in the trust bundle, which breaks everybody
// who has certificates of the old one, so the loss of a Secret alone is not enough. That word is spoken about one CA by its
// fingerprint, and means nothing to the next.
func (m *made) missing(ctx context.Context, now time.Time) (absent bool, err error) {
	var object v1alpha1.Signer
	if err := m.options.Reader.Get(ctx, client.ObjectKey{Name: m.options.Signer}, &object); err != nil {
		return false, fmt.Errorf("reading Signer %s, to see whether there was a CA: %w", m.options.Signer, err)
	}
	for _, known := range object.Status.Backends {
		if known.Name != m.options.Backend || known.CANotAfter == nil || !known.CANotAfter.After(now) || object.Annotations[annotationNewCA] == known.Root {
			continue
		}
		return false, authority.Unusable(reasonCASecretLost, "Secret %s does not exist, but the CA that this backend had is in use until %s: restore the Secret from a backup or, "+
			"to start over with a new root, which everyone who verifies must then learn to trust, run %s",
			m.own.Key, rfc3339(known.CANotAfter.Time), m.command(annotationNewCA, known.Root))
	}
	return true, authority.Unusable(ReasonCANotMade, "there is no CA in Secret %s yet", m.own.Key)
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
	m.absent = false
	err := m.own.CheckOwner(secret)
	var ca *managed.CA
	if err == nil {
		ca, err = managed.Parse(secret.Data)
	}
	if err != nil {
		m.secret, m.ca = nil, nil
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

// write puts the entries into the Secret that was read, or into a new one if there was none, and takes in what it holds then: something
// else, if it was not mine that came first.
func (m *made) write(ctx context.Context, secret *corev1.Secret, data entry.Data) (err error) {
	if secret == nil {
		secret, err = m.own.Create(ctx, data)
	} else {
		secret, err = m.own.Update(ctx, secret, data)
	}
	if err == nil {
		m.parse(secret)
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

// Rotate implements signer.Rotator. It makes the CA, renews the intermediate and replaces the root.
func (m *made) Rotate(ctx context.Context, ask signer.Rotation) (signer.Rotated, error) {
	m.rotating.Lock()
	defer m.rotating.Unlock()
	secret, ca, err := m.look(ctx, ask.MaxDuration)
	if err != nil {
		return signer.Rotated{}, err
	}
	facts := m.facts(ctx, ca, ask)
	step, state, err := ca.State.Next(facts)
	if step == rotation.None || err != nil {
		return m.rotated(ca, facts), explain(ca, facts, err)
	}
	data, err := ca.Take(m.config, step, state, facts.Now) // which may take long, as it makes keys
	if err != nil {
		return m.rotated(ca, facts), explain(ca, facts, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.write(ctx, secret, data); err != nil {
		return m.rotated(ca, facts), explain(ca, facts, err)
	}
	if m.ca == nil {
		return signer.Rotated{}, m.broken
	}
	r := m.rotated(m.ca, facts)
	r.Changed = true
	return r, nil
}

// look returns the Secret and the CA in it, or none and one of which nothing is there if it is to be made.
func (m *made) look(ctx context.Context, maxDuration time.Duration) (*corev1.Secret, *managed.CA, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maxDuration = maxDuration
	switch err := m.refresh(ctx, m.options.Clock.Now()); {
	case err != nil:
		return nil, nil, err
	case m.absent:
		return nil, &managed.CA{}, nil
	case m.ca == nil:
		return nil, nil, m.broken
	}
	return m.secret, m.ca, nil
}

// explain says what a step was for that could not be taken.
func explain(ca *managed.CA, f rotation.Facts, err error) error {
	switch {
	case err == nil:
		return nil
	case f.Absent:
		return fmt.Errorf("making the CA: %w", err)
	case f.Renew && !f.Compromised:
		return warning(reasonIntermediateNotRenewing, "renewing the intermediate: %w; the CA certificate %s is valid until %s", err, ca.Authority.Cert.Subject, rfc3339(ca.Authority.NotAfter))
	}
	return fmt.Errorf("replacing the root: %w", err)
}

// facts gathers what decides about the next step.
func (m *made) facts(ctx context.Context, ca *managed.CA, ask signer.Rotation) rotation.Facts {
	now, propagation := m.options.Clock.Now(), m.options.Config.TrustPropagation.Duration
	f := rotation.Facts{
		Now: now, Propagation: propagation, MaxDuration: ask.MaxDuration,
		Over:   func(until time.Time) bool { return m.watch.Over(m.options.Clock, until) },
		Time:   func() (time.Time, error) { return ask.Time(ctx) },
		Behind: func() bool { return ask.Behind(ctx) },
	}
	if ca.Root == nil {
		f.Absent = true
		return f
	}
	due := rotation.Due(ca.Root.NotBefore, ca.Root.NotAfter, propagation)
	asked := ask.Annotations[v1alpha1.AnnotationRotateRoot] == signer.Fingerprint(ca.Root)
	// A CA whose time is over needs a person: a clock that is wrong by years must not replace it.
	f.Due = (asked || !now.Before(due)) && ca.Authority.Check(now) == nil
	f.Renew = ask.Annotations[v1alpha1.AnnotationRotateIntermediate] == signer.Fingerprint(ca.Authority.Cert) || ca.RenewalDue(now)
	f.Compromised = named(ask.Annotations[v1alpha1.AnnotationCompromisedRoot], ca.Root, ca.Next, ca.Old)
	f.Seen = func() (bool, error) { return seen(ctx, ask, ca.Authority.Anchors, now) }
	if ca.Old != nil {
		f.OldNotAfter = ca.Old.NotAfter
	}
	return f
}

// rotated says where the CA is, and when to look again.
func (m *made) rotated(ca *managed.CA, f rotation.Facts) signer.Rotated {
	if ca.Root == nil {
		return signer.Rotated{}
	}
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
