// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/signer/secretname"
)

// workers is how many Signers are looked at at the same time, as a backend that hangs holds up its own.
const workers = 8

// SetupWithManager has the manager run the reconciler for every Signer: on a schedule, when a backend of it comes or goes, and for all
// of them when a Secret in Certwright's namespace changes, as any of them may rest on it. A ConfigMap matters to those that name it.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("signerstatus").
		// Not for changes of status, which this reconciler makes itself: a message that never stays the same would make it spin.
		For(&v1alpha1.Signer{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
			r.Registry.Expedite()
			return r.all(ctx)
		}), builder.WithPredicates(predicate.NewPredicateFuncs(concerns))).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.naming)).
		WatchesRawSource(source.Channel(r.Registry.Changed(), &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{RateLimiter: fair.Backoff(), MaxConcurrentReconciles: workers}).
		Complete(r)
}

// kept begin the names of Secrets in which backends keep what they are about to do. They change with requests, and no Signer rests on
// them.
var kept = []string{secretname.ACMEOrder, string(secretname.Venafi)}

func concerns(secret client.Object) bool {
	return !slices.ContainsFunc(kept, func(begin string) bool { return strings.HasPrefix(secret.GetName(), begin) })
}

func (r *Reconciler) all(ctx context.Context) []reconcile.Request {
	return r.those(ctx, func(*v1alpha1.Signer) bool { return true })
}

// naming returns the Signers that take trust anchors from a ConfigMap of this name.
func (r *Reconciler) naming(ctx context.Context, configMap client.Object) []reconcile.Request {
	if configMap.GetName() == v1alpha1.TrustConfigMap {
		return nil // there is one in each namespace, and none is a source
	}
	return r.those(ctx, func(s *v1alpha1.Signer) bool {
		return slices.ContainsFunc(s.Spec.TrustBundle.Additional, func(t v1alpha1.TrustSource) bool {
			return t.ConfigMapRef != nil && t.ConfigMapRef.Name == configMap.GetName()
		})
	})
}

func (r *Reconciler) those(ctx context.Context, concerned func(*v1alpha1.Signer) bool) []reconcile.Request {
	var list v1alpha1.SignerList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, fmt.Sprintf("listing %T after a change of what they rest on", list))
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if concerned(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
		}
	}
	return requests
}
