// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/registry"
)

// publish publishes the trust anchors of all backends that know them, and lets those backends sign: what verifiers do not have yet, nobody
// signs with. While a backend does not know its anchors that did before, what is published stays, and more comes to it: a bundle
// without them would break those who verify what that backend signed. One of which they were never known signed nothing, and holds up
// nobody. What the Signer adds is only published: no backend's certificates are verified with it.
func (r *Reconciler) publish(ctx context.Context, s *registry.Signer, object *v1alpha1.Signer) (warnings []error, err error) {
	var anchors []*x509.Certificate
	var lost []string // fingerprints of the roots of backends that do not know their anchors now
	for _, m := range s.Members {
		known := m.Anchors()
		if before := statusOf(object.Status.Backends, m.Name()).Root; len(known) == 0 && before != "" {
			lost = append(lost, before)
		}
		anchors = append(anchors, known...)
	}
	if len(lost) > 0 {
		current, err := r.Publisher.Current(ctx, s.SignerName)
		if err != nil {
			return nil, &signer.CheckError{Reason: member.ReasonTrustNotPublished, Err: fmt.Errorf("adding to the trust bundle: %w", err)}
		}
		if slices.ContainsFunc(lost, func(root string) bool {
			return !slices.ContainsFunc(current, func(c *x509.Certificate) bool { return signer.Fingerprint(c) == root })
		}) {
			return nil, nil // what is missing is nowhere to be had
		}
		gone := slices.DeleteFunc(gone(s, object.Status.Backends), func(root string) bool { return slices.Contains(lost, root) })
		anchors = append(anchors, slices.DeleteFunc(current, func(c *x509.Certificate) bool { return slices.Contains(gone, signer.Fingerprint(c)) })...)
	}
	if added := object.Spec.TrustBundle; len(anchors) == 0 && len(added.Additional) == 0 && !added.PublicRoots {
		return nil, nil
	}
	where, left, err := r.Publisher.Publish(ctx, object, anchors)
	for _, w := range left {
		warnings = append(warnings, &signer.CheckError{Reason: registry.ReasonTrustIncomplete, Err: fmt.Errorf("trust bundle: %s", w), Signs: true})
	}
	if err != nil {
		return warnings, &signer.CheckError{Reason: member.ReasonTrustNotPublished, Err: fmt.Errorf("publishing the trust bundle: %w", err)}
	}
	object.Status.TrustBundle = where
	for _, m := range s.Members {
		m.Trust(m.Anchors())
	}
	return warnings, nil
}

// describe fills in what the status says of the backends, and returns the condition Ready, which tells of other trouble, too.
func (r *Reconciler) describe(s *registry.Signer, object *v1alpha1.Signer, other ...error) metav1.Condition {
	before := object.Status.Backends
	recent := r.sinceWritten(object.UID) < recheck
	object.Status.Backends, object.Status.CANotAfter, object.Status.Serving = nil, nil, ""
	bundled := object.Status.TrustBundle != "" && !object.Spec.TrustBundle.PublicRoots // these may well cover a backend that cannot tell
	var troubles []error
	for _, m := range s.Members {
		status, canSign, trouble := m.Status(statusOf(before, m.Name()), bundled, recent)
		if trouble != nil {
			troubles = append(troubles, &signer.CheckError{Reason: status.Reason, Err: fmt.Errorf("backend %s: %s", m.Name(), status.Message)})
		}
		object.Status.Backends = append(object.Status.Backends, status)
		if first := object.Status.CANotAfter; first == nil || status.CANotAfter.Before(first) {
			object.Status.CANotAfter = status.CANotAfter.DeepCopy()
		}
		if canSign {
			object.Status.Serving = cmp.Or(object.Status.Serving, m.Name())
		}
	}
	if object.Status.CANotAfter != nil {
		r.Metrics.CAExpires(s.SignerName, object.Status.CANotAfter.Time)
	}
	return readyCondition(object, append(troubles, other...), nil)
}

// readyCondition says whether something can sign now: not if there is trouble with the Signer itself, or no backend serves.
func readyCondition(object *v1alpha1.Signer, troubles []error, own error) metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: object.Generation,
		Reason: ReasonReady, Message: "All backends can sign.",
	}
	trouble := cmp.Or(own, errors.Join(troubles...))
	if trouble == nil {
		return condition
	}
	condition.Reason = ReasonDegraded
	if object.Status.Serving == "" {
		condition.Status, condition.Reason = metav1.ConditionFalse, member.ReasonOf(trouble)
	}
	condition.Message = excerpt.Condition(fmt.Sprintf("Something needs attention: %v.", trouble))
	return condition
}
