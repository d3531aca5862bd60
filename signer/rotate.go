// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
)

// Reasons of events about the CA of a Signer's backend, and of its status if a step of its rotation fails.
const (
	ReasonRotationPublishing = "RotationPublishing"
	ReasonRotationSigning    = "RotationSigning"
	ReasonRotationFinished   = "RotationFinished"
	ReasonRootReplaced       = "RootReplaced"
	ReasonIssuerReplaced     = "IssuerReplaced"
	ReasonRotationTrouble    = "RotationTrouble"
)

// rotating is how long a step of a rotation may take: it may make several RSA keys.
const rotating = 30 * time.Second

// rotate lets those backends that can replace their roots take the step that is due, before anything is published. It returns how soon to
// look again.
func (r *StatusReconciler) rotate(ctx context.Context, signer *Signer, object *v1alpha1.Signer) (next time.Duration) {
	next = recheck
	ask := Rotation{
		Signer: object.UID, Annotations: object.Annotations, MaxDuration: signer.limits.maxDuration, Time: r.serverTime,
		Behind: func(ctx context.Context) bool { return r.behind(ctx, signer.signerName) },
		Published: func(ctx context.Context) ([]*x509.Certificate, error) {
			return r.Publisher.Current(ctx, signer.signerName)
		},
	}
	var all sync.WaitGroup
	for _, m := range signer.members {
		all.Go(func() { m.rotate(ctx, ask) })
	}
	all.Wait()
	for _, m := range signer.members {
		rotated := m.recall().rotated
		switch {
		case rotated == nil:
			continue
		case rotated.Changed:
			next = soonest
		case !rotated.Next.IsZero():
			next = min(next, max(rotated.Next.Sub(r.Clock.Now()), soonest))
		}
		r.Metrics.rotates(signer.signerName, m.name, rotated.Rotation)
	}
	return next
}

// laggards is a Publisher that knows where a bundle that it published last has not arrived.
type laggards interface {
	Behind(ctx context.Context, signerName string) (where []string, err error)
}

// behind reports whether the bundle of a signerName has not arrived everywhere yet, as far as anybody knows.
func (r *StatusReconciler) behind(ctx context.Context, signerName string) bool {
	l, ok := r.Publisher.(laggards)
	if !ok {
		return false
	}
	where, err := l.Behind(ctx, signerName)
	if err != nil || len(where) > 0 {
		logf.FromContext(ctx).Info("the rotation of a CA waits for the trust bundle to arrive", "signer", signerName, "missing", excerpt.Of(strings.Join(where, ", "), maxBackendMessage), "error", err)
		return true
	}
	return false
}

// serverTime asks the API server for its time. Everybody who is logged in may ask this.
func (r *StatusReconciler) serverTime(ctx context.Context) (time.Time, error) {
	var review authenticationv1.SelfSubjectReview
	if err := r.Client.Create(ctx, &review); err != nil {
		return time.Time{}, fmt.Errorf("asking the API server for its time: %w", err)
	}
	if review.CreationTimestamp.IsZero() {
		return time.Time{}, errors.New("asking the API server for its time: it does not say")
	}
	return review.CreationTimestamp.Time, nil
}

// rotate has the backend take the step that is due. What it said before it says until it says something else.
func (m *member) rotate(ctx context.Context, ask Rotation) {
	b, ok := m.backend.(Rotator)
	if !ok {
		return
	}
	rotated, err := asideFor(ctx, m, rotating, func(ctx context.Context) (Rotated, error) { return b.Rotate(ctx, ask) })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.rotateErr = err
	switch before := m.known.rotated; {
	case rotated.Issuer != nil:
		m.known.rotated = &rotated
	case before != nil:
		m.known.rotated = &Rotated{Issuer: before.Issuer, Rotation: before.Rotation}
	}
}

// caStatus fills in what is known of the backend's CA certificate and its rotation, which is what was known before if nothing is.
func (m *member) caStatus(s *v1alpha1.BackendStatus, before v1alpha1.BackendStatus, now known) {
	if _, ok := m.backend.(Rotator); !ok {
		return
	}
	s.Issuer, s.Rotation = before.Issuer, before.Rotation
	if now.rotated != nil {
		s.Issuer, s.Rotation = Fingerprint(now.rotated.Issuer), now.rotated.Rotation.DeepCopy()
	}
}

// gone returns the fingerprints of roots that backends had, by what was known of them before, and have no more. They are not to
// come back with what else is published.
func (s *Signer) gone(before []v1alpha1.BackendStatus) (roots []string) {
	for _, m := range s.members {
		now := m.recall().anchors
		had := statusOf(before, m.name)
		all := []string{had.Root}
		if had.Rotation != nil {
			all = append(all, had.Rotation.OldRoot, had.Rotation.NewRoot)
		}
		for _, root := range all {
			if root != "" && len(now) > 0 && !slices.ContainsFunc(now, func(c *x509.Certificate) bool { return Fingerprint(c) == root }) {
				roots = append(roots, root)
			}
		}
	}
	return roots
}

// tellRotation tells what became of a backend's CA.
func (r *StatusReconciler) tellRotation(ctx context.Context, object *v1alpha1.Signer, was, is v1alpha1.BackendStatus) {
	tell := func(kind, reason, format string, args ...any) {
		r.Teller.Signer(ctx, object, kind, reason, fmt.Sprintf("Backend %q: ", is.Name)+fmt.Sprintf(format, args...))
	}
	phase := func(s v1alpha1.BackendStatus) v1alpha1.RotationPhase {
		if s.Rotation == nil {
			return ""
		}
		return s.Rotation.Phase
	}
	changed := phase(was) != phase(is) || phase(is) != "" && was.Rotation.NewRoot != is.Rotation.NewRoot
	expected := was.Rotation != nil && is.Root == was.Rotation.NewRoot || is.Rotation != nil && was.Root == is.Rotation.OldRoot
	switch {
	case is.Issuer != "" && was.Root != "" && was.Root != is.Root && !expected:
		tell(corev1.EventTypeWarning, ReasonRootReplaced, "root %s took the place of root %s, which is no longer trusted.", is.Root, was.Root)
	case changed && phase(is) == v1alpha1.RotationPublishing:
		tell(corev1.EventTypeNormal, ReasonRotationPublishing, "root %s is going to take the place of root %s, and is published beside it, which still signs.", is.Rotation.NewRoot, is.Rotation.OldRoot)
	case changed && phase(is) == v1alpha1.RotationSigning:
		tell(corev1.EventTypeNormal, ReasonRotationSigning, "root %s is what is signed below now. Root %s stays trusted until the last certificate below it has expired.", is.Rotation.NewRoot, is.Rotation.OldRoot)
	case changed && phase(was) == v1alpha1.RotationSigning:
		tell(corev1.EventTypeNormal, ReasonRotationFinished, "root %s took the place of root %s, which is no longer published, as all below it has expired.", was.Rotation.NewRoot, was.Rotation.OldRoot)
	case was.Issuer != "" && was.Issuer != is.Issuer && was.Root == is.Root:
		tell(corev1.EventTypeNormal, ReasonIssuerReplaced, "CA certificate %s took the place of %s, below the same root.", is.Issuer, was.Issuer)
	}
}
