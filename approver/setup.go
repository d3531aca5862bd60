// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/judge"
)

// Reasons of a CertificatePolicy's condition Ready.
const (
	ReasonInForce = "InForce"
	ReasonInvalid = "Invalid"
)

// SetupWithManager has the manager run the reconciler for every CertificateSigningRequest, and again for those that are
// pending when a policy or a Signer changes.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("approver").
		For(&certificatesv1.CertificateSigningRequest{}).
		Watches(&v1alpha1.CertificatePolicy{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.pending(ctx, o.(*v1alpha1.CertificatePolicy).Spec.SignerNames...)
		})).
		Watches(&v1alpha1.Signer{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.pending(ctx, o.(*v1alpha1.Signer).Spec.SignerName)
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(reconcile.AsReconciler(r.Client, r))
}

// maxMessage bounds the message of a condition in bytes, below the 32768 characters that the API server takes.
const maxMessage = 16 << 10

// pending returns the requests for these signerNames that nobody decided about.
func (r *Reconciler) pending(ctx context.Context, signerNames ...string) []reconcile.Request {
	var list certificatesv1.CertificateSigningRequestList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing pending requests after a change of policy")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if item := &list.Items[i]; slices.Contains(signerNames, item.Spec.SignerName) && !csr.IsApproved(item) && !csr.IsFinished(item) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: item.Name}})
		}
	}
	return requests
}

// PolicyReconciler says in the status of each CertificatePolicy whether it is in force.
type PolicyReconciler struct {
	Client client.Client
	Judge  *judge.Judge
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
	meta.SetStatusCondition(&updated.Status.Conditions, ready(compiled))
	if equality.Semantic.DeepEqual(p.Status, updated.Status) {
		return ctrl.Result{}, nil
	}
	if err := r.Client.Status().Update(ctx, updated); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the status of CertificatePolicy %s: %w", p.Name, err)
	}
	return ctrl.Result{}, nil
}

// ready turns what became of a policy into its condition.
func ready(c judge.Compiled) metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: c.Generation,
		Reason: ReasonInForce, Message: "The policy is in force.",
	}
	if c.Err == nil {
		return condition
	}
	condition.Status, condition.Reason = metav1.ConditionFalse, ReasonInvalid
	condition.Message = fmt.Sprintf("The policy is not used: %v.", c.Err)
	if c.Policy != nil {
		condition.Message = fmt.Sprintf("Generation %d stays in force, as this one cannot be used: %v.", c.InForce, c.Err)
	}
	if len(condition.Message) > maxMessage {
		condition.Message = strings.ToValidUTF8(condition.Message[:maxMessage], "") + "…"
	}
	return condition
}
