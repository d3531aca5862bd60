// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package source

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
	"github.com/certwright/certwright/signer/ca/authority"
	"github.com/certwright/certwright/signer/ca/entry"
	"github.com/certwright/certwright/signer/ca/record"
	"github.com/certwright/certwright/signer/ca/rotation"
	"github.com/certwright/certwright/signer/ca/store"
	"github.com/certwright/certwright/signer/secretname"
)

// mostLearn is how long it takes until kubelets and agents have brought a new root to nearly all who verify.
const mostLearn = 5 * time.Minute

// entryCA may hold the trust anchors of an administrator's CA.
const entryCA = "ca.crt"

// imported is a CA that an administrator brought, in a Secret that this package only reads. When another root appears there, the CA
// that was there before signs on until everybody had time to learn of it. What roots there were, and until then that CA, is in a Secret
// of our own.
type imported struct {
	options Options
	secret  client.ObjectKey

	// mu is held while the Secrets are read, which is from memory but for the moments in which ours is written.
	mu sync.Mutex
	keeper
	// before is the last CA that everybody could verify; where says which CA of which record was held against that.
	before *authority.Authority
	where  position

	own     *store.Store
	written *corev1.Secret // that the record is in; nil if there is none
	record  *record.Record // nil if there is none yet
	// maxDuration is the longest lifetime that may be granted now, if that is known.
	maxDuration time.Duration

	// rotating is held by the one who rotates.
	rotating sync.Mutex
	watch    rotation.Watch
}

// position is a CA and a record, and whether whoever knows the current roots of the record can verify what the CA signs.
type position struct {
	authority *authority.Authority
	record    *record.Record
	known     bool
}

// NewImported returns a CA that an administrator brings.
func NewImported(o Options) Source {
	return &imported{options: o, secret: client.ObjectKey{Namespace: o.Namespace, Name: o.Config.SecretRef.Name}, own: store.New(
		o.Client, o.Reader, client.ObjectKey{Namespace: o.Namespace, Name: secretname.CARecord.Of(o.Signer, o.Backend)}, o.SignerName)}
}

// Load implements Source.
func (m *imported) Load(ctx context.Context, lifetime time.Duration) (l CA, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.options.Clock.Now()
	if err := m.refresh(ctx); err != nil {
		return l, err
	}
	if l.Authority, l.Warn, err = m.choose(now); err != nil {
		return l, err
	}
	if err := m.readRecord(ctx); err != nil {
		return l, err
	}
	if l.Authority.Check(now) == nil { // else nothing is signed
		if l.Lifetime, err = m.grant(ctx, lifetime, l.Authority); err != nil {
			return l, err
		}
	}
	return m.overlap(l, now), nil
}

// overlap has the CA of before sign while not everybody can know the roots of the one that is there now.
func (m *imported) overlap(l CA, now time.Time) CA {
	own := l.Authority.Anchors
	switch {
	case m.record == nil:
	case m.knows(l.Authority):
		m.before = l.Authority
	default:
		if m.before == nil {
			m.before = m.record.Before // what a process kept that is no more
		}
		if m.before != nil && m.before.Check(now) == nil {
			l.Authority = m.before
		} else {
			l.Hold, l.Warn = m.alone(l, now)
		}
	}
	if m.record != nil {
		own = record.Union(own, record.Valid(m.record.Roots(), now))
	}
	l.Anchors = record.Union([]*x509.Certificate{l.Authority.Root()}, own)
	return l
}

// alone says what becomes of a CA that not everybody can know, if nobody knows the one of before, as it was replaced while nobody ran: it
// does not sign before most had time to learn of its root, and then a person should know.
func (m *imported) alone(l CA, now time.Time) (hold, warn error) {
	state, most := m.record.State, min(m.options.Config.TrustPropagation.Duration, mostLearn)
	shown := state.Published
	if shown.IsZero() { // a namespace that never takes it holds up nobody for ever: below what is published nowhere nothing is signed anyway
		shown = state.Since.Add(most)
	}
	if state.Phase != v1alpha1.RotationPublishing || now.Before(shown.Add(most)) {
		return authority.Unusable(reasonRootNotPropagated, "the CA certificate %s signs when its root has been published for %s: the CA that was there before is not in Secret %s any more, nor known",
			l.Authority.Cert.Subject, most, m.secret), l.Warn
	}
	if l.Warn == nil {
		l.Warn = warning(reasonRootNotPropagated, "the CA certificate %s signs before everybody had %s to learn of its root: the CA that was there before is not in Secret %s any more, nor known",
			l.Authority.Cert.Subject, m.options.Config.TrustPropagation.Duration, m.secret)
	}
	return nil, l.Warn
}

// knows reports whether whoever knows the current roots can verify what the CA signs.
func (m *imported) knows(a *authority.Authority) bool {
	if m.where.authority != a || m.where.record != m.record {
		m.where = position{a, m.record, a.LeadsTo(m.record.Current)}
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
	case store.Version(secret) != m.version:
		a, err := parseImported(secret.Data)
		if a != nil {
			a.Remedy = fmt.Sprintf("put a new CA into Secret %s", m.secret)
		}
		m.take(store.Version(secret), a, describe(m.secret, err, ""))
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

// readRecord takes in our own Secret. One of another Signer, be it of the same name, speaks of roots that this one never had: it is
// written over.
func (m *imported) readRecord(ctx context.Context) error {
	secret, err := m.own.Get(ctx)
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
	if m.written != nil && store.Version(m.written) == store.Version(secret) {
		return nil
	}
	m.written, m.record = secret, nil
	if another := m.own.CheckOwner(secret); another != nil {
		return nil //nolint:nilerr // it is taken for none
	}
	r, err := record.Parse(secret.Data)
	if err != nil {
		m.written = nil
		return describe(m.own.Key, err, "; restore it from a backup, or delete it: then the CA's former roots are no longer published")
	}
	if r.Before != nil {
		r.Before.Remedy = fmt.Sprintf("put a new CA into Secret %s", m.secret)
	}
	m.record = r
	return nil
}

// write puts a record in place of the one that was read, and takes in what is there then.
func (m *imported) write(ctx context.Context, r *record.Record) error {
	data, err := r.Encode()
	if err != nil {
		return err
	}
	var secret *corev1.Secret
	if m.written == nil {
		secret, err = m.own.Create(ctx, data)
	} else {
		secret, err = m.own.Update(ctx, m.written, data)
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
		case lifetime == 0 || r != nil && lifetime <= time.Duration(r.State.Longest):
			return lifetime, nil
		case r == nil:
			r = &record.Record{Current: a.Anchors}
		}
		if err := m.write(ctx, r.Raise(max(lifetime, m.maxDuration))); err != nil {
			return 0, fmt.Errorf("writing down that a certificate lives for %s: %w", lifetime, err)
		}
	}
	return 0, fmt.Errorf("writing down that a certificate lives for %s: Secret %s changes all the time", lifetime, m.own.Key)
}
