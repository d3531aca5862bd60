// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/policy/judge"
)

// Reasons of a CertificatePolicy's condition Ready.
const (
	ReasonInForce = "InForce"
	ReasonInvalid = "Invalid"
)

// maxAudit bounds the message of the newest denial in mode Audit, in bytes, as it is written again and again.
const maxAudit = 1 << 10

// PolicyReconciler says in the status of each CertificatePolicy whether it is in force, and what it would have decided in
// mode Audit.
type PolicyReconciler struct {
	Client client.Client
	Judge  *judge.Judge
	Audits *Audits
}

// SetupWithManager has the manager run the reconciler for every CertificatePolicy.
func (r *PolicyReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("policy").For(&v1alpha1.CertificatePolicy{}).
		Complete(reconcile.AsReconciler(r.Client, r))
}

// Reconcile compiles one policy and writes its status if that changes.
func (r *PolicyReconciler) Reconcile(ctx context.Context, p *v1alpha1.CertificatePolicy) (ctrl.Result, error) {
	compiled := r.Judge.Compile(p)
	if compiled.Generation != p.Generation {
		return ctrl.Result{}, nil // the cache lags behind: the newer generation comes by itself
	}
	updated := p.DeepCopy()
	updated.Status.ObservedGeneration = p.Generation
	meta.SetStatusCondition(&updated.Status.Conditions, ready(compiled, p.Spec.Mode))
	var result ctrl.Result
	if updated.Status.Audit = r.Audits.Status(p); updated.Status.Audit != nil {
		result.RequeueAfter = publishEvery
	}
	if equality.Semantic.DeepEqual(p.Status, updated.Status) {
		return result, nil
	}
	if err := r.Client.Status().Update(ctx, updated); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the status of CertificatePolicy %s: %w", p.Name, err)
	}
	return result, nil
}

// ready turns what became of a policy into its condition.
func ready(c judge.Compiled, mode v1alpha1.Mode) metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: c.Generation,
		Reason: ReasonInForce, Message: "The policy is in force.",
	}
	switch {
	case c.Err == nil && mode == v1alpha1.ModeAudit:
		condition.Message = "The policy reports what it would decide, and decides nothing: its mode is Audit."
	case c.Err == nil:
	case c.Policy != nil:
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonInvalid
		condition.Message = fmt.Sprintf("Generation %d stays in force until generation %d is mended: %v.", c.InForce, c.Generation, c.Err)
	case mode == v1alpha1.ModeAudit:
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonInvalid
		condition.Message = fmt.Sprintf("The policy reports nothing until it is mended, and delays nobody, as its mode is Audit: %v.", c.Err)
	default:
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonInvalid
		condition.Message = fmt.Sprintf("The policy is not used until it is mended, and whom no other policy permits waits: %v.", c.Err)
	}
	condition.Message = excerpt.Condition(condition.Message)
	return condition
}
