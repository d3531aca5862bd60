// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Version is one of the versions of the API in which PodCertificateRequests are read and written.
type Version string

// The versions that are known.
const (
	V1      Version = "v1"
	V1Beta1 Version = "v1beta1"
)

// object returns an empty request.
func (v Version) object() client.Object {
	if v == V1Beta1 {
		return &certificatesv1beta1.PodCertificateRequest{}
	}
	return &certificatesv1.PodCertificateRequest{}
}

// list returns the requests of a cache, which are not to be modified.
func (v Version) list(ctx context.Context, cached client.Reader) (objects []client.Object, err error) {
	if v == V1Beta1 {
		var list certificatesv1beta1.PodCertificateRequestList
		err = cached.List(ctx, &list, client.UnsafeDisableDeepCopy)
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
		return objects, err
	}
	var list certificatesv1.PodCertificateRequestList
	err = cached.List(ctx, &list, client.UnsafeDisableDeepCopy)
	for i := range list.Items {
		objects = append(objects, &list.Items[i])
	}
	return objects, err
}

// wide returns a request in the form of v1beta1, which has all that v1 has. It shares memory with the object.
func wide(object client.Object) *certificatesv1beta1.PodCertificateRequest {
	o, ok := object.(*certificatesv1.PodCertificateRequest)
	if !ok {
		return object.(*certificatesv1beta1.PodCertificateRequest)
	}
	return &certificatesv1beta1.PodCertificateRequest{
		ObjectMeta: o.ObjectMeta,
		Spec: certificatesv1beta1.PodCertificateRequestSpec{
			SignerName: o.Spec.SignerName, PodName: o.Spec.PodName, PodUID: o.Spec.PodUID,
			ServiceAccountName: o.Spec.ServiceAccountName, ServiceAccountUID: o.Spec.ServiceAccountUID,
			NodeName: o.Spec.NodeName, NodeUID: o.Spec.NodeUID,
			MaxExpirationSeconds: o.Spec.MaxExpirationSeconds, StubPKCS10Request: o.Spec.StubPKCS10Request,
			UnverifiedUserAnnotations: o.Spec.UnverifiedUserAnnotations,
		},
		Status: certificatesv1beta1.PodCertificateRequestStatus(o.Status),
	}
}

// withStatus returns a copy of the object with another status.
func withStatus(object client.Object, status certificatesv1.PodCertificateRequestStatus) client.Object {
	switch o := object.DeepCopyObject().(type) {
	case *certificatesv1beta1.PodCertificateRequest:
		o.Status = certificatesv1beta1.PodCertificateRequestStatus(status)
		return o
	default:
		copied := o.(*certificatesv1.PodCertificateRequest)
		copied.Status = status
		return copied
	}
}
