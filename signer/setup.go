// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// SetupWithManager has the manager run the reconciler for every CertificateSigningRequest, and again for those that wait
// when a Signer or a policy changes.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("signer").
		For(&certificatesv1.CertificateSigningRequest{}).
		Watches(&v1alpha1.Signer{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.waiting(ctx, o.(*v1alpha1.Signer).Spec.SignerName)
		})).
		Watches(&v1alpha1.CertificatePolicy{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.waiting(ctx, o.(*v1alpha1.CertificatePolicy).Spec.SignerNames...)
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(reconcile.AsReconciler(r.Client, r))
}

// waiting returns the approved requests for these signerNames that are not signed yet.
func (r *Reconciler) waiting(ctx context.Context, signerNames ...string) []reconcile.Request {
	var list certificatesv1.CertificateSigningRequestList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing waiting requests after a change of a Signer or a policy")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if item := &list.Items[i]; slices.Contains(signerNames, item.Spec.SignerName) && csr.IsApproved(item) && !csr.IsFinished(item) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: item.Name}})
		}
	}
	return requests
}

// SetupWithManager has the manager run the reconciler for every Signer, and for all of them when a Secret in Certwright's
// namespace changes, as any of them may rest on it.
func (r *StatusReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("signerstatus").
		// Not for changes of status, which this reconciler makes itself: a message that never stays the same would make it spin.
		For(&v1alpha1.Signer{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
			return r.all(ctx)
		})).
		WithOptions(controller.Options{
			// After a long outage, too, a Signer that is well again says so soon: requests wait for that.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, recheck),
		}).
		Complete(r)
}

func (r *StatusReconciler) all(ctx context.Context) []reconcile.Request {
	var list v1alpha1.SignerList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, fmt.Sprintf("listing %T after a change of a Secret", list))
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
	}
	return requests
}
