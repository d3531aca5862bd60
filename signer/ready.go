// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

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
)

// publish publishes the trust anchors of all backends that know them, and lets those backends sign: what verifiers do not have yet, nobody
// signs with. While a backend does not know its anchors that did before, what is published stays, and more comes to it: a bundle
// without them would break those who verify what that backend signed. One of which they were never known signed nothing, and holds up
// nobody. What the Signer adds is only published: no backend's certificates are verified with it.
func (r *StatusReconciler) publish(ctx context.Context, signer *Signer, object *v1alpha1.Signer) (warnings []error, err error) {
	var anchors []*x509.Certificate
	var lost []string // fingerprints of the roots of backends that do not know their anchors now
	for _, m := range signer.members {
		known := m.recall().anchors
		if before := statusOf(object.Status.Backends, m.name).Root; len(known) == 0 && before != "" {
			lost = append(lost, before)
		}
		anchors = append(anchors, known...)
	}
	if len(lost) > 0 {
		current, err := r.Publisher.Current(ctx, signer.signerName)
		if err != nil {
			return nil, &CheckError{Reason: ReasonTrustNotPublished, Err: fmt.Errorf("adding to the trust bundle: %w", err)}
		}
		if slices.ContainsFunc(lost, func(root string) bool {
			return !slices.ContainsFunc(current, func(c *x509.Certificate) bool { return Fingerprint(c) == root })
		}) {
			return nil, nil // what is missing is nowhere to be had
		}
		gone := slices.DeleteFunc(signer.gone(object.Status.Backends), func(root string) bool { return slices.Contains(lost, root) })
		anchors = append(anchors, slices.DeleteFunc(current, func(c *x509.Certificate) bool { return slices.Contains(gone, Fingerprint(c)) })...)
	}
	if added := object.Spec.TrustBundle; len(anchors) == 0 && len(added.Additional) == 0 && !added.PublicRoots {
		return nil, nil
	}
	where, left, err := r.Publisher.Publish(ctx, object, anchors)
	for _, w := range left {
		warnings = append(warnings, &CheckError{Reason: ReasonTrustIncomplete, Err: fmt.Errorf("trust bundle: %s", w), Signs: true})
	}
	if err != nil {
		return warnings, &CheckError{Reason: ReasonTrustNotPublished, Err: fmt.Errorf("publishing the trust bundle: %w", err)}
	}
	object.Status.TrustBundle = where
	for _, m := range signer.members {
		m.trust(m.recall().anchors)
	}
	return warnings, nil
}

// describe fills in what the status says of the backends, and returns the condition Ready, which tells of other trouble, too.
func (r *StatusReconciler) describe(signer *Signer, object *v1alpha1.Signer, other ...error) metav1.Condition {
	before := object.Status.Backends
	recent := r.sinceWritten(object.UID) < recheck
	object.Status.Backends, object.Status.CANotAfter, object.Status.Serving = nil, nil, ""
	bundled := object.Status.TrustBundle != "" && !object.Spec.TrustBundle.PublicRoots // these may well cover a backend that cannot tell
	var troubles []error
	for _, m := range signer.members {
		status, canSign, trouble := m.status(statusOf(before, m.name), bundled, recent)
		if trouble != nil {
			troubles = append(troubles, &CheckError{Reason: status.Reason, Err: fmt.Errorf("backend %s: %s", m.name, status.Message)})
		}
		object.Status.Backends = append(object.Status.Backends, status)
		if first := object.Status.CANotAfter; first == nil || status.CANotAfter.Before(first) {
			object.Status.CANotAfter = status.CANotAfter.DeepCopy()
		}
		if canSign {
			object.Status.Serving = cmp.Or(object.Status.Serving, m.name)
		}
	}
	if object.Status.CANotAfter != nil {
		r.Metrics.caExpires(signer.signerName, object.Status.CANotAfter.Time)
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
		condition.Status, condition.Reason = metav1.ConditionFalse, reasonOf(trouble)
	}
	condition.Message = excerpt.Of(fmt.Sprintf("Something needs attention: %v.", trouble), maxMessage)
	return condition
}
