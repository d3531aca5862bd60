// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/apitime"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/registry"
)

// Reasons of events about the CA of a Signer's backend.
const (
	ReasonRotationPublishing = "RotationPublishing"
	ReasonRotationSigning    = "RotationSigning"
	ReasonRotationFinished   = "RotationFinished"
	ReasonRootReplaced       = "RootReplaced"
	ReasonIssuerReplaced     = "IssuerReplaced"
)

// rotate lets those backends that can replace their roots take the step that is due, before anything is published. It returns how soon to
// look again.
func (r *Reconciler) rotate(ctx context.Context, s *registry.Signer, object *v1alpha1.Signer) (next time.Duration) {
	next = recheck
	ask := signer.Rotation{
		Signer: object.UID, Annotations: object.Annotations, MaxDuration: s.Limits.MaxDuration(),
		Time:   func(ctx context.Context) (time.Time, error) { return apitime.Now(ctx, r.Client) },
		Behind: func(ctx context.Context) bool { return r.behind(ctx, s.SignerName) },
		Published: func(ctx context.Context) ([]*x509.Certificate, error) {
			return r.Publisher.Current(ctx, s.SignerName)
		},
	}
	var all sync.WaitGroup
	for _, m := range s.Members {
		all.Go(func() { m.Rotate(ctx, ask) })
	}
	all.Wait()
	for _, m := range s.Members {
		rotated := m.Rotated()
		switch {
		case rotated == nil:
			continue
		case rotated.Changed:
			next = soonest
		case !rotated.Next.IsZero():
			next = min(next, max(rotated.Next.Sub(r.Clock.Now()), soonest))
		}
		r.Metrics.Rotates(s.SignerName, m.Name(), rotated.Rotation)
	}
	return next
}

// maxMissing bounds in bytes what a log line says of the places that a bundle has not reached.
const maxMissing = 1024

// laggards is a Publisher that knows where a bundle that it published last has not arrived.
type laggards interface {
	Behind(ctx context.Context, signerName string) (where []string, err error)
}

// behind reports whether the bundle of a signerName has not arrived everywhere yet, as far as anybody knows.
func (r *Reconciler) behind(ctx context.Context, signerName string) bool {
	l, ok := r.Publisher.(laggards)
	if !ok {
		return false
	}
	where, err := l.Behind(ctx, signerName)
	if err != nil || len(where) > 0 {
		logf.FromContext(ctx).Info("the rotation of a CA waits for the trust bundle to arrive", "signer", signerName, "missing", excerpt.Of(strings.Join(where, ", "), maxMissing), "error", err)
		return true
	}
	return false
}

// gone returns the fingerprints of roots that backends had, by what was known of them before, and have no more. They are not to
// come back with what else is published.
func gone(s *registry.Signer, before []v1alpha1.BackendStatus) (roots []string) {
	for _, m := range s.Members {
		now := m.Anchors()
		had := statusOf(before, m.Name())
		all := []string{had.Root}
		if had.Rotation != nil {
			all = append(all, had.Rotation.OldRoot, had.Rotation.NewRoot)
		}
		for _, root := range all {
			if root != "" && len(now) > 0 && !slices.ContainsFunc(now, func(c *x509.Certificate) bool { return signer.Fingerprint(c) == root }) {
				roots = append(roots, root)
			}
		}
	}
	return roots
}

// tellRotation tells what became of a backend's CA.
func (r *Reconciler) tellRotation(ctx context.Context, object *v1alpha1.Signer, was, is v1alpha1.BackendStatus) {
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
		tell(corev1.EventTypeNormal, ReasonRotationPublishing, "root %s is going to take the place of root %s, and is published beside it.", is.Rotation.NewRoot, is.Rotation.OldRoot)
	case changed && phase(is) == v1alpha1.RotationSigning:
		tell(corev1.EventTypeNormal, ReasonRotationSigning, "root %s is what is signed below now. Root %s stays trusted until the last certificate below it has expired.", is.Rotation.NewRoot, is.Rotation.OldRoot)
	case changed && phase(was) == v1alpha1.RotationSigning:
		tell(corev1.EventTypeNormal, ReasonRotationFinished, "root %s took the place of root %s, which is no longer published, as all below it has expired.", was.Rotation.NewRoot, was.Rotation.OldRoot)
	case was.Issuer != "" && was.Issuer != is.Issuer && was.Root == is.Root:
		tell(corev1.EventTypeNormal, ReasonIssuerReplaced, "CA certificate %s took the place of %s, below the same root.", is.Issuer, was.Issuer)
	}
}
