// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the two kinds that Certwright adds to Kubernetes: Signer, which binds a signerName to what signs
// for it, and CertificatePolicy, which says who may ask that signerName for what. Both are cluster-scoped, like the
// CertificateSigningRequests they rule over. The custom resource definitions in manifests/crds are generated from here.
//
// +kubebuilder:object:generate=true
// +groupName=certwright.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "certwright.dev", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Signer{}, &SignerList{}, &CertificatePolicy{}, &CertificatePolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// ConditionReady is the one condition type of both kinds: True when the object is in force as it stands in the API.
const ConditionReady = "Ready"
