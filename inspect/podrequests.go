// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// PodCertificateRequests lists what kubelets asked for, in a namespace or, if that is empty, in all of them. It reads whatever version the API
// server has the kind in; those of v1beta1 come without their keys. Where it has none, there are no requests.
func PodCertificateRequests(ctx context.Context, reader client.Reader, namespace string) ([]certificatesv1.PodCertificateRequest, error) {
	var list certificatesv1.PodCertificateRequestList
	err := reader.List(ctx, &list, client.InNamespace(namespace))
	if !meta.IsNoMatchError(err) {
		return list.Items, err
	}
	var beta certificatesv1beta1.PodCertificateRequestList
	if err := absent(reader.List(ctx, &beta, client.InNamespace(namespace))); err != nil {
		return nil, err
	}
	for _, o := range beta.Items {
		list.Items = append(list.Items, certificatesv1.PodCertificateRequest{
			ObjectMeta: o.ObjectMeta,
			Spec: certificatesv1.PodCertificateRequestSpec{
				SignerName: o.Spec.SignerName, PodName: o.Spec.PodName, PodUID: o.Spec.PodUID,
				ServiceAccountName: o.Spec.ServiceAccountName, ServiceAccountUID: o.Spec.ServiceAccountUID,
				NodeName: o.Spec.NodeName, NodeUID: o.Spec.NodeUID,
				MaxExpirationSeconds: o.Spec.MaxExpirationSeconds, UnverifiedUserAnnotations: o.Spec.UnverifiedUserAnnotations,
			},
			Status: certificatesv1.PodCertificateRequestStatus(o.Status),
		})
	}
	return list.Items, nil
}
