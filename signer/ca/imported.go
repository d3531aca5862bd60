// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/x509"
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
	"github.com/certwright/certwright/signer/ca/rotation"
)

// entryCA may hold the trust anchors of an administrator's CA.
const entryCA = "ca.crt"

// imported is a CA that an administrator brought, in a Secret that this package only reads. When another root appears there, the CA
// that was there before signs on from memory until everybody had time to learn of it. What roots there were is in a Secret of our own.
type imported struct {
	options Options
	secret  client.ObjectKey

	// mu is held while the Secrets are read, which is from memory but for the moments in which ours is written.
	mu sync.Mutex
	keeper
	// before is the last CA that everybody could verify; where says which CA of which record was held against that.
	before *authority.Authority
	where  position

	own     *store
	written *corev1.Secret // that the record is in; nil if there is none
	record  *record        // nil if there is none yet
	// maxDuration is the longest lifetime that may be granted now, if that is known.
	maxDuration time.Duration

	// rotating is held by the one who rotates.
	rotating sync.Mutex
	watch    rotation.Watch
}

// position is a CA and a record, and whether whoever knows the current roots of the record can verify what the CA signs.
type position struct {
	authority *authority.Authority
	record    *record
	known     bool
}

func newImported(o Options) *imported {
	return &imported{options: o, secret: client.ObjectKey{Namespace: o.Namespace, Name: o.CA.SecretRef.Name}, own: &store{
		client: o.Client, reader: o.Reader, key: client.ObjectKey{Namespace: o.Namespace, Name: RecordName(o.Signer, o.Backend)}, signerName: o.SignerName,
	}}
}

// load implements source.
func (m *imported) load(ctx context.Context, lifetime time.Duration) (l loaded, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.options.Clock.Now()
	if err := m.refresh(ctx); err != nil {
		return l, err
	}
	if l.authority, l.warn, err = m.choose(now); err != nil {
		return l, err
	}
	if err := m.readRecord(ctx); err != nil {
		return l, err
	}
	if l.authority.Check(now) == nil { // else nothing is signed
		if l.lifetime, err = m.grant(ctx, lifetime, l.authority); err != nil {
			return l, err
		}
	}
	l = m.overlap(l, now)
	l.anchors = union([]*x509.Certificate{l.authority.Root()}, l.anchors)
	return l, nil
}

// overlap has the CA of before sign while not everybody can know the roots of the one that is there now.
func (m *imported) overlap(l loaded, now time.Time) loaded {
	own := l.authority.Anchors
	l.anchors = own
	if m.record == nil {
		return l
	}
	switch {
	case m.knows(l.authority):
		m.before = l.authority
	case m.before != nil && m.before.Check(now) == nil:
		l.authority = m.before
	case l.warn == nil:
		l.warn = warning(reasonRootNotPropagated, "the CA certificate %s signs before everybody had %s to learn of its root: the CA that was there before is not in Secret %s any more, nor in memory",
			l.authority.Cert.Subject, m.options.CA.TrustPropagation.Duration, m.secret)
	}
	if all := valid(union(own, m.record.roots()), now); len(all) > 0 {
		l.anchors = all
	}
	return l
}

// knows reports whether whoever knows the current roots can verify what the CA signs.
func (m *imported) knows(a *authority.Authority) bool {
	if m.where.authority != a || m.where.record != m.record {
		m.where = position{a, m.record, a.LeadsTo(m.record.current)}
	}
	return m.where.known
}

// refresh takes in what the administrator's Secret holds now.
func (m *imported) refresh(ctx context.Context) error {
	secret := &corev1.Secret{}
	err := m.options.Client.Get(ctx, m.secret, secret)
	switch {
	case apierrors.IsNotFound(err):
		m.good, m.before = nil, nil // whoever brought it has taken it away
		m.take("", nil, authority.Unusable(reasonSecretNotFound,
			"Secret %s does not exist: create it with type kubernetes.io/tls, the CA certificate and its chain in tls.crt and the key in tls.key", m.secret))
	case err != nil:
		return fmt.Errorf("reading Secret %s: %w", m.secret, err)
	case version(secret) != m.version:
		a, err := parseImported(secret.Data)
		if a != nil {
			a.Remedy = fmt.Sprintf("put a new CA into Secret %s", m.secret)
		}
		m.take(version(secret), a, describe(m.secret, err, ""))
	}
	return nil
}

// parseImported reads a CA that an administrator brought.
func parseImported(data entry.Data) (*authority.Authority, error) {
	chain, err := entry.Certificates(data, corev1.TLSCertKey)
	if err != nil {
		return nil, err
	}
	key, err := entry.PrivateKey(data, corev1.TLSPrivateKeyKey)
	if err != nil {
		return nil, err
	}
	if len(data[entryCA]) == 0 {
		return authority.New(chain, nil, key)
	}
	anchors, err := entry.Certificates(data, entryCA)
	if err != nil {
		return nil, err
	}
	return authority.New(chain, anchors, key)
}

// readRecord takes in our own Secret. One of another signerName speaks of a Signer that is gone, and is written over.
func (m *imported) readRecord(ctx context.Context) error {
	secret, err := m.own.get(ctx)
	if apierrors.IsNotFound(err) {
		m.written, m.record = nil, nil
		return nil
	}
	if err != nil {
		return err
	}
	return m.parseRecord(secret)
}

func (m *imported) parseRecord(secret *corev1.Secret) error {
	if m.written != nil && version(m.written) == version(secret) {
		return nil
	}
	m.written, m.record = secret, nil
	if m.own.own(secret) != nil {
		return nil
	}
	r, err := parseRecord(secret.Data)
	if err != nil {
		m.written = nil
		return describe(m.own.key, err, "; restore it from a backup, or delete it: then the CA's former roots are no longer published")
	}
	m.record = r
	return nil
}

// write puts a record in place of the one that was read, and takes in what is there then.
func (m *imported) write(ctx context.Context, r *record) error {
	data, err := r.encode()
	if err != nil {
		return err
	}
	var secret *corev1.Secret
	if m.written == nil {
		secret, err = m.own.create(ctx, data)
	} else {
		secret, _, err = m.own.update(ctx, m.written, data)
	}
	if err != nil {
		return err
	}
	return m.parseRecord(secret)
}

// grant writes down that a certificate may live that long.
func (m *imported) grant(ctx context.Context, lifetime time.Duration, a *authority.Authority) (time.Duration, error) {
	for range attempts {
		r := m.record
		switch {
		case lifetime == 0 || r != nil && lifetime <= time.Duration(r.state.Longest):
			return lifetime, nil
		case r == nil:
			r = &record{current: a.Anchors}
		}
		if err := m.write(ctx, r.take(rotation.Raise, r.state.Raise(max(lifetime, m.maxDuration)), nil)); err != nil {
			return 0, fmt.Errorf("writing down that a certificate lives for %s: %w", lifetime, err)
		}
	}
	return 0, fmt.Errorf("writing down that a certificate lives for %s: Secret %s changes all the time", lifetime, m.own.key)
}

// Rotate implements signer.Rotator.
func (m *imported) Rotate(ctx context.Context, ask signer.Rotation) (signer.Rotated, error) {
	m.rotating.Lock()
	defer m.rotating.Unlock()
	m.mu.Lock()
	m.maxDuration = ask.MaxDuration
	m.mu.Unlock()
	l, err := m.load(ctx, 0)
	if err != nil {
		return signer.Rotated{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	facts, r := m.facts(ctx, ask), m.record
	next, trouble := r, error(nil)
	if now := m.latest; now != nil && now.Check(facts.Now) == nil {
		next, trouble = m.step(now, ask, facts)
	}
	if next == r {
		return m.rotated(l.authority, r, facts), trouble
	}
	if err := m.write(ctx, next); err != nil {
		return m.rotated(l.authority, r, facts), fmt.Errorf("writing down the roots of the CA: %w", err)
	}
	if now, _, err := m.choose(facts.Now); err == nil { // another one may sign now
		l = m.overlap(loaded{authority: now}, facts.Now)
	}
	rotated := m.rotated(l.authority, m.record, facts)
	rotated.Changed = true
	return rotated, trouble
}

// step returns what the record should be: the one there is if nothing is to be done.
func (m *imported) step(a *authority.Authority, ask signer.Rotation, f rotation.Facts) (*record, error) {
	r := m.record
	if r == nil {
		return &record{current: a.Anchors, state: rotation.State{}.Raise(f.MaxDuration)}, nil
	}
	compromised := ask.Annotations[v1alpha1.AnnotationCompromisedRoot]
	f.Compromised = named(compromised, r.roots()...)
	if f.Compromised && named(compromised, a.Anchors...) {
		return r, warning(reasonCompromisedRootInUse, "the root %s is said to be compromised, and is that of the CA in Secret %s: put another CA there", compromised, m.secret)
	}
	state := r.state
	switch known := m.knows(a); {
	case f.Compromised:
	case known && !same(a.Anchors, r.current):
		return r.adopt(f, a.Anchors), nil
	case !known && !same(a.Anchors, r.next):
		f.Due, state.Phase = true, ""
	}
	step, state, err := state.Next(f)
	if step == rotation.None || err != nil {
		return r, err
	}
	return r.take(step, state, a.Anchors), nil
}

// facts gathers what decides about the next step.
func (m *imported) facts(ctx context.Context, ask signer.Rotation) rotation.Facts {
	now, r := m.options.Clock.Now(), m.record
	return rotation.Facts{
		Now: now, Propagation: m.options.CA.TrustPropagation.Duration, MaxDuration: ask.MaxDuration,
		Seen: func() (bool, error) { return seen(ctx, ask, union(r.current, r.next), now) },
		Over: func(until time.Time) bool { return m.watch.Over(m.options.Clock, until) },
	}
}

// rotated says where the CA is, and when to look again.
func (m *imported) rotated(a *authority.Authority, r *record, f rotation.Facts) signer.Rotated {
	rotated := signer.Rotated{Issuer: a.Cert}
	if r == nil || r.state.Phase == "" {
		return rotated
	}
	old, root := r.old, r.current
	if r.state.Phase == v1alpha1.RotationPublishing {
		old, root = r.current, r.next
	}
	if len(old) > 0 {
		rotated.Rotation = rotationStatus(r.state, f, old[0], first(without(root, old), root))
	}
	rotated.Next = lookAgain(r.state, f)
	return rotated
}

// first returns the first certificate of all lists.
func first(lists ...[]*x509.Certificate) *x509.Certificate { return union(lists...)[0] }
