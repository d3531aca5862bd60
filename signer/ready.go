// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
)

// publish publishes the trust anchors of all backends that know them, and lets those backends sign: what verifiers do not have yet, nobody
// signs with. A backend that does not know its anchors now, and did before, leaves the bundle as it is: a bundle without them would
// break those who verify what that backend signed. One of which they were never known signed nothing, and holds up nobody.
func (r *StatusReconciler) publish(ctx context.Context, signer *Signer, object *v1alpha1.Signer) error {
	var anchors []*x509.Certificate
	for _, m := range signer.members {
		known := m.recall().anchors
		if len(known) == 0 && statusOf(object.Status.Backends, m.name).Root != "" {
			return nil
		}
		anchors = append(anchors, known...)
	}
	if len(anchors) == 0 {
		return nil
	}
	where, err := r.Publisher.Publish(ctx, object, anchors)
	if err != nil {
		return &CheckError{Reason: ReasonTrustNotPublished, Err: fmt.Errorf("publishing the trust bundle: %w", err)}
	}
	object.Status.TrustBundle = where
	for _, m := range signer.members {
		m.trust(m.recall().anchors)
	}
	return nil
}

// describe fills in what the status says of the backends, and returns the condition Ready.
func (r *StatusReconciler) describe(signer *Signer, object *v1alpha1.Signer) metav1.Condition {
	before := object.Status.Backends
	recent := r.sinceWritten(object.UID) < recheck
	object.Status.Backends, object.Status.CANotAfter, object.Status.Serving = nil, nil, ""
	var troubles []error
	for _, m := range signer.members {
		status, canSign, trouble := m.status(statusOf(before, m.name), object.Status.TrustBundle != "", recent)
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
	return readyCondition(object, troubles, nil)
}

// readyCondition says whether something can sign now: not if there is trouble with the Signer itself, or no backend serves.
func readyCondition(object *v1alpha1.Signer, backends []error, own error) metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: object.Generation,
		Reason: ReasonReady, Message: "All backends can sign.",
	}
	trouble := cmp.Or(own, errors.Join(backends...))
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
