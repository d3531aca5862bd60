// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/policy/judge"
)

// SetupWithManager has the manager run the reconciler for every CertificateSigningRequest that nobody decided about, and
// again when a policy or a Signer changes. Requesters are served in turns. Call it once, before the manager starts.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, workers int) error {
	if err := index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	again := judge.Requeue(r.Client, csr.IsUndecided)
	specs := builder.WithPredicates(predicate.GenerationChangedPredicate{}) // statuses, which count things, change all the time
	return ctrl.NewControllerManagedBy(mgr).
		Named("approver").
		For(&certificatesv1.CertificateSigningRequest{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return csr.IsUndecided(o.(*certificatesv1.CertificateSigningRequest))
		}))).
		Watches(&v1alpha1.CertificatePolicy{}, again, specs).
		Watches(&v1alpha1.Signer{}, again, specs).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             fair.Backoff(),
			NewQueue:                fair.NewQueue(fair.ByRequester(r.Client)),
		}).
		Complete(reconcile.AsReconciler(r.Client, r))
}
