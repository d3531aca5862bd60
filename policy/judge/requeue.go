// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"context"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Requeue is for a controller of requests that watches Signers and CertificatePolicies: when one of them changes, it looks
// again at the cached requests for its signerNames that wait for that.
func Requeue(cached client.Reader, waits func(*certificatesv1.CertificateSigningRequest) bool) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, changed client.Object) []reconcile.Request {
		var signerNames []string
		switch o := changed.(type) {
		case *v1alpha1.Signer:
			signerNames = []string{o.Spec.SignerName}
		case *v1alpha1.CertificatePolicy:
			signerNames = o.Spec.SignerNames
		}
		var list certificatesv1.CertificateSigningRequestList
		if err := cached.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "listing the requests that wait for a change of a Signer or a policy")
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			if item := &list.Items[i]; slices.Contains(signerNames, item.Spec.SignerName) && waits(item) {
				requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: item.Name}})
			}
		}
		return requests
	})
}
