// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"maps"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/facts"
	"github.com/certwright/certwright/trust"
)

// cacheOptions say what approver and signer keep in memory. Anybody who may create requests, Services or namespaces fills
// this cache, so of these it holds only what is read, made anew rather than stripped, so that nothing big lives on behind it.
//
// What is read from it must not be written back with an update, which would take from the object in the API server what
// the cache does not hold; a patch does not. Also is what else is to be said about single kinds; the API server must serve them.
func cacheOptions(namespace string, also map[client.Object]cache.ByObject) cache.Options {
	options := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&certificatesv1.CertificateSigningRequest{}: {Transform: keep(keepRequest)},
			&corev1.Service{}:   {Transform: keep(keepService)},
			&corev1.Namespace{}: {Transform: keep(keepNamespace)},
			&corev1.Secret{}:    {Namespaces: map[string]cache.Config{namespace: {}}},
			&corev1.ConfigMap{}: trust.ConfigMapCache(namespace),
		},
	}
	maps.Copy(options.ByObject, also)
	return options
}

// keep makes a transform of a cache from a function of one kind. Other objects, such as the tombstones of deleted ones, pass.
func keep[T any](f func(T) T) func(any) (any, error) {
	return func(object any) (any, error) {
		if o, ok := object.(T); ok {
			return f(o), nil
		}
		return object, nil
	}
}

// keepMeta leaves out labels, annotations, finalizers and owners, which may take a megabyte.
func keepMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// keepRequest keeps the whole spec only of requests that may still be ours to decide about. An overlong one is cut to a
// length at which csr.Parse refuses it all the same.
func keepRequest(o *certificatesv1.CertificateSigningRequest) *certificatesv1.CertificateSigningRequest {
	kept := &certificatesv1.CertificateSigningRequest{ObjectMeta: keepMeta(o.ObjectMeta), Status: o.Status}
	switch {
	case csr.IsFinished(o):
		kept.Spec.SignerName, kept.Spec.Username, kept.Spec.UID = o.Spec.SignerName, o.Spec.Username, o.Spec.UID
		if csr.IsApproved(o) {
			kept.Spec.Extra = keepPod(o.Spec.Extra)
		}
		kept.Status = keepFinished(o.Status)
	case csr.IsKubernetesSigner(o.Spec.SignerName):
		kept.Spec.SignerName = o.Spec.SignerName
	default:
		kept.Spec = o.Spec
		kept.Spec.Request = cut(o.Spec.Request)
	}
	return kept
}

// cut cuts what csr refuses as too long.
func cut(value []byte) []byte {
	if len(value) > csr.MaxRequestBytes {
		return bytes.Clone(value[:csr.MaxRequestBytes+1])
	}
	return value
}

// keepPod keeps which pod a request came from, as quotas count by pod what was approved. Whoever may impersonate may write
// anything there: what is too long for a name or UID is left out.
func keepPod(extra map[string]certificatesv1.ExtraValue) map[string]certificatesv1.ExtraValue {
	kept := make(map[string]certificatesv1.ExtraValue, 2)
	for _, key := range []string{serviceaccount.PodNameKey, serviceaccount.PodUIDKey} {
		value := extra[key]
		if len(value) != 1 || len(value[0]) > validation.DNS1123SubdomainMaxLength {
			return nil
		}
		kept[key] = value
	}
	return kept
}

// keepFinished keeps that a request is finished, and how, but neither its certificate nor why it was refused.
func keepFinished(s certificatesv1.CertificateSigningRequestStatus) certificatesv1.CertificateSigningRequestStatus {
	var kept certificatesv1.CertificateSigningRequestStatus
	if len(s.Certificate) > 0 {
		kept.Certificate = []byte("-") // not empty: it is issued
	}
	for _, c := range s.Conditions {
		if c.Type != certificatesv1.CertificateApproved {
			c.Message = ""
		}
		kept.Conditions = append(kept.Conditions, c)
	}
	return kept
}

// keepService keeps what policy/facts reads. A selector that is too long to select anything is cut, and stays too long.
func keepService(o *corev1.Service) *corev1.Service {
	selector := o.Spec.Selector
	if len(selector) > facts.MaxSelector {
		selector = make(map[string]string, facts.MaxSelector+1)
		for key, value := range o.Spec.Selector {
			if len(selector) > facts.MaxSelector {
				break
			}
			selector[strings.Clone(key)] = strings.Clone(value) // the whole would live on behind a part of it
		}
	}
	return &corev1.Service{
		ObjectMeta: keepMeta(o.ObjectMeta),
		Spec:       corev1.ServiceSpec{Selector: selector, Type: o.Spec.Type, ClusterIP: o.Spec.ClusterIP},
	}
}

// keepNamespace keeps what policy/facts and trust read.
func keepNamespace(o *corev1.Namespace) *corev1.Namespace {
	kept := &corev1.Namespace{ObjectMeta: keepMeta(o.ObjectMeta), Status: corev1.NamespaceStatus{Phase: o.Status.Phase}}
	kept.Labels = o.Labels
	return kept
}
