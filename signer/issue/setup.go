// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/policy/judge"
)

// SetupWithManager has the manager run the reconciler for every CertificateSigningRequest that is to be signed, and again when
// a Signer or a policy changes. Requesters are served in turns.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	again := judge.Requeue(r.Client, waits)
	return ctrl.NewControllerManagedBy(mgr).
		Named("signer").
		For(&certificatesv1.CertificateSigningRequest{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return waits(o.(*certificatesv1.CertificateSigningRequest))
		}))).
		Watches(&v1alpha1.Signer{}, again, builder.WithPredicates(CanSignAnew())).
		Watches(&v1alpha1.CertificatePolicy{}, again, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             fair.Backoff(),
			NewQueue:                fair.NewQueue(fair.ByRequester(r.Client)),
		}).
		Complete(reconcile.AsReconciler(r.Client, r))
}

// waits reports whether a request is approved and not signed yet.
func waits(o *certificatesv1.CertificateSigningRequest) bool {
	return csr.IsApproved(o) && !csr.IsFinished(o)
}

// CanSignAnew lets those changes of Signers pass for which requests that wait should be looked at again.
func CanSignAnew() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, startsToServe)
}

// startsToServe lets changes pass by which a Signer can sign that could not, and those of which backend is asked first.
var startsToServe = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, after := e.ObjectOld.(*v1alpha1.Signer), e.ObjectNew.(*v1alpha1.Signer)
	return after.Status.Serving != "" && after.Status.Serving != before.Status.Serving
}}
