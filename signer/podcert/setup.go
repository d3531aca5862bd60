// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/signer/issue"
)

// SetupWithManager has the manager run the reconciler for every PodCertificateRequest that waits, and again when a Signer, a policy or the
// admission policy changes. The namespaces of pods are served in turns.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	changed := handler.EnqueueRequestsFromMapFunc(r.waiting)
	return ctrl.NewControllerManagedBy(mgr).
		Named("podcertificaterequests").
		For(r.Version.object(), builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return waits(wide(o)) }))).
		Watches(&v1alpha1.Signer{}, changed, builder.WithPredicates(issue.CanSignAnew())).
		Watches(&v1alpha1.CertificatePolicy{}, changed, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&admissionregistrationv1.ValidatingAdmissionPolicy{}, changed, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, changed, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             fair.Backoff(),
			NewQueue:                fair.NewQueue(fair.ByNamespace),
		}).
		Complete(r)
}

// waiting returns the requests that wait and that a changed object may matter to.
func (r *Reconciler) waiting(ctx context.Context, changed client.Object) []reconcile.Request {
	concerned := func(string) bool { return true }
	switch o := changed.(type) {
	case *v1alpha1.Signer:
		concerned = func(name string) bool { return name == o.Spec.SignerName }
	case *v1alpha1.CertificatePolicy:
		concerned = func(name string) bool { return slices.Contains(o.Spec.SignerNames, name) }
	}
	objects, err := r.Version.list(ctx, r.Client)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing the PodCertificateRequests that wait for a change")
		return nil
	}
	var requests []reconcile.Request
	for _, object := range objects {
		if request := wide(object); waits(request) && concerned(request.Spec.SignerName) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(object)})
		}
	}
	return requests
}
