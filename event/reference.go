// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
)

// referenceTo returns what an event about a request refers to, and the pod that the request is for, without a name if there is none
// that the API server vouches for: a CertificateSigningRequest is a pod's if it was created with a token that is bound to it. What a
// request says of itself is not looked at.
func referenceTo(request client.Object) (object, pod corev1.ObjectReference) {
	object = corev1.ObjectReference{Namespace: request.GetNamespace(), Name: request.GetName(), UID: request.GetUID()}
	switch r := request.(type) {
	case *certificatesv1.CertificateSigningRequest:
		object.APIVersion, object.Kind = certificatesv1.SchemeGroupVersion.String(), "CertificateSigningRequest"
		if p, bound := (csr.Requester{Username: r.Spec.Username, Extra: r.Spec.Extra}).Pod(); bound {
			pod = podReference(p.Namespace, p.Name, p.UID)
		}
	case *certificatesv1.PodCertificateRequest:
		object.APIVersion, object.Kind = certificatesv1.SchemeGroupVersion.String(), "PodCertificateRequest"
		pod = podReference(r.Namespace, r.Spec.PodName, r.Spec.PodUID)
	case *certificatesv1beta1.PodCertificateRequest:
		object.APIVersion, object.Kind = certificatesv1beta1.SchemeGroupVersion.String(), "PodCertificateRequest"
		pod = podReference(r.Namespace, r.Spec.PodName, r.Spec.PodUID)
	}
	return object, pod
}

func podReference(namespace, name string, uid types.UID) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: name, UID: uid}
}
