// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package member

import (
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/breaker"
)

// Reasons of a backend's status, besides those that backends give in a CheckError.
const (
	ReasonBackendNotReady   = "BackendNotReady"
	ReasonNoTrustAnchors    = "NoTrustAnchors"
	ReasonTrustNotPublished = "TrustBundleNotPublished"
	ReasonRotationTrouble   = "RotationTrouble"
)

// maxMessage bounds the message of a backend's status in bytes.
const maxMessage = 1024

// Expedite makes the backend due for a probe.
func (m *Member) Expedite() { m.breaker.Expedite() }

// Next says when the backend should be inspected again.
func (m *Member) Next() time.Time { return m.breaker.View().Next }

// State says whether the backend is asked for certificates.
func (m *Member) State() breaker.State { return m.breaker.View().State }

// errNoAnchors is a warning about a backend whose certificates the trust bundle does not cover.
var errNoAnchors = &signer.CheckError{Reason: ReasonNoTrustAnchors, Err: errors.New("nobody knows its trust anchors, so the trust bundle does not cover what it signs: set trustAnchors"), Signs: true}

// Status says what is known of the backend, and what is wrong with it. Bundled is true if there is a trust bundle, which should cover it.
// While recent is true, its words stay as they were before if they mean the same. What is known of its CA stays until verifiers have
// the anchors.
func (m *Member) Status(before v1alpha1.BackendStatus, bundled, recent bool) (s v1alpha1.BackendStatus, canSign bool, trouble error) {
	view, now := m.breaker.View(), m.recall()
	since := metav1.NewTime(view.Since.Truncate(time.Second))
	s = v1alpha1.BackendStatus{Name: m.name, State: v1alpha1.BackendState(view.State.String()), Since: &since, Root: before.Root, CANotAfter: before.CANotAfter}
	if view.First && before.State == s.State && before.Since != nil {
		s.Since = before.Since
	}
	m.caStatus(&s, before, now)
	trusted, unpublished := m.verifyWith()
	if unpublished == nil && len(trusted) > 0 {
		s.Root = signer.Fingerprint(trusted[0])
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
		trouble = &signer.CheckError{Reason: ReasonTrustNotPublished, Err: unpublished}
	case now.warning != nil:
		trouble = now.warning
	case now.rotateErr != nil:
		trouble = rotationTrouble(now.rotateErr)
	case len(trusted) == 0 && bundled:
		trouble = errNoAnchors
	}
	if trouble != nil {
		s.Reason, s.Message = ReasonOf(trouble), excerpt.Line(trouble.Error(), maxMessage)
	}
	if recent && before.State == s.State && before.Reason == s.Reason && before.Message != "" && s.Message != "" {
		s.Message = before.Message
	}
	return s, view.State != breaker.Down && unpublished == nil, trouble
}

// rotationTrouble is a warning, with its own reason if it has one.
func rotationTrouble(err error) error {
	if check := (*signer.CheckError)(nil); errors.As(err, &check) {
		return err
	}
	return &signer.CheckError{Reason: ReasonRotationTrouble, Err: err, Signs: true}
}

// ReasonOf returns the reason of a condition for an error.
func ReasonOf(err error) string {
	if check := (*signer.CheckError)(nil); errors.As(err, &check) {
		return check.Reason
	}
	return ReasonBackendNotReady
}

// caStatus fills in what is known of the backend's CA certificate and its rotation, which is what was known before if nothing is.
func (m *Member) caStatus(s *v1alpha1.BackendStatus, before v1alpha1.BackendStatus, now known) {
	if _, ok := m.backend.(signer.Rotator); !ok {
		return
	}
	s.Issuer, s.Rotation = before.Issuer, before.Rotation
	if now.rotated != nil {
		s.Issuer, s.Rotation = signer.Fingerprint(now.rotated.Issuer), now.rotated.Rotation.DeepCopy()
	}
}
