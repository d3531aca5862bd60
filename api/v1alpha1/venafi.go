// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import certificatesv1 "k8s.io/api/certificates/v1"

// Venafi says which zone of which product signs. Exactly one product is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.tpp) != has(self.cloud)",message="exactly one product must be set: tpp or cloud"
type Venafi struct {
	// TPP is Venafi Trust Protection Platform, also called CyberArk Certificate Manager, Self-Hosted.
	//
	// +optional
	TPP *VenafiTPP `json:"tpp,omitempty"`

	// Cloud is Venafi as a Service, also called CyberArk Certificate Manager, SaaS.
	//
	// +optional
	Cloud *VenafiCloud `json:"cloud,omitempty"`

	// Usages are those that all certificates of the zone have, as only the CA behind it decides about them. A request for others is
	// refused before anything is bought. Default: not known, and a certificate with usages that were not asked for is bought and
	// then not handed out.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Usages []certificatesv1.KeyUsage `json:"usages,omitempty"`
}

// VenafiTPP says which policy folder issues, and how to log in. The url is that of the server, without /vedsdk.
type VenafiTPP struct {
	Server `json:",inline"`

	// Zone is the policy folder, such as "Kubernetes\Workloads" below \VED\Policy.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Zone string `json:"zone"`

	// ClientID of the API integration that the token is for.
	//
	// +kubebuilder:default=certwright
	// +kubebuilder:validation:MaxLength=253
	ClientID string `json:"clientID,omitempty"`

	// CredentialsRef names a Secret with one of: access-token; refresh-token; username and password; tls.crt and tls.key. A
	// refresh token is replaced at each use, and the next one written to a Secret of Certwright's own.
	CredentialsRef SecretRef `json:"credentialsRef"`
}

// VenafiCloud says which application and issuing template issue, and with which key. The url is that of the region's API.
type VenafiCloud struct {
	// URL of the API. Default: that of the United States.
	//
	// +kubebuilder:default="https://api.venafi.cloud"
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https://[^\s/?#@]+(/[^\s?#]*)?$`
	URL string `json:"url,omitempty"`

	// CABundle holds the certificates in PEM that the server's own certificate must lead to. Default: the public roots that come
	// with Certwright's image.
	//
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`

	// Zone is an application and an issuing template, such as "Kubernetes\Workloads".
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Zone string `json:"zone"`

	// APIKeyRef is where the API key is.
	APIKeyRef SecretKeyRef `json:"apiKeyRef"`
}
