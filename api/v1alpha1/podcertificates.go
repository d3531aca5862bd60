// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import certificatesv1 "k8s.io/api/certificates/v1"

// PodCertificates says what a pod gets that its kubelet asks a certificate for. Such a request names nothing but the pod. All of it is
// subject to the Signer's limits and to policy, as if the pod had asked itself.
type PodCertificates struct {
	// DNSNames to put into the certificate, unless the pod names others in its certwright.dev/dns-names. The placeholders of
	// CertificatePolicies stand for the same here: "{service}.{namespace}.svc" gives one name for each Service that selects the pod. An
	// entry with a placeholder that has no value gives none.
	//
	// +kubebuilder:default={"{service}.{namespace}.svc","{service}.{namespace}.svc.{clusterDomain}"}
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	DNSNames []string `json:"dnsNames,omitempty"`

	// URIs to put into the certificate, unless the pod names others in its certwright.dev/uris.
	//
	// +kubebuilder:default={"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"}
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=2048
	// +listType=set
	// +optional
	URIs []string `json:"uris,omitempty"`

	// PodIPs has the pod's IP addresses put into the certificate, as far as they are known when the kubelet asks, unless the pod says
	// otherwise in its certwright.dev/ip-addresses. Most kubelets ask before the pod has an address.
	//
	// +optional
	PodIPs bool `json:"podIPs,omitempty"`

	// Usages of the certificate, unless the pod names others in its certwright.dev/usages.
	//
	// +kubebuilder:default={"digital signature","server auth","client auth"}
	// +kubebuilder:validation:MaxItems=32
	// +listType=set
	// +optional
	Usages []certificatesv1.KeyUsage `json:"usages,omitempty"`
}
