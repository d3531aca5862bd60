// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Backend is one thing that can sign. Exactly one kind is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.ca), has(self.vault), has(self.acme), has(self.cfssl), has(self.venafi), has(self.external)].exists_one(set, set)",message="exactly one kind of backend must be set: ca, vault, acme, cfssl, venafi or external"
// +kubebuilder:validation:XValidation:rule="!has(self.ca) || !has(self.trustAnchors)",message="a ca tells its trust anchors itself, those of two roots while one is replaced: take trustAnchors out, and put more of them into spec.trustBundle.additional"
type Backend struct {
	// Name tells the backends of one Signer apart in status, events and metrics.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// TrustAnchors are certificates in PEM that those who verify this backend's certificates must trust. Set them where the
	// backend cannot tell by itself, as with ACME, or where what it tells is not to be taken on its word: then a chain that leads
	// elsewhere is not used. Default: what the backend tells. They cannot be set for a ca, which tells others while its root is replaced.
	//
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	TrustAnchors string `json:"trustAnchors,omitempty"`

	// Timeout of one attempt to sign. After it the next backend is asked. It means nothing to a ca in a Secret.
	//
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('1m')",message="timeout must be between 100ms and 1m"
	// +optional
	Timeout metav1.Duration `json:"timeout,omitzero"`

	// CA signs with a CA certificate and key.
	//
	// +optional
	CA *CA `json:"ca,omitempty"`

	// Vault has the PKI secrets engine of a HashiCorp Vault or OpenBao server sign.
	//
	// +optional
	Vault *Vault `json:"vault,omitempty"`

	// ACME orders certificates from a server that speaks ACME (RFC 8555), such as Let's Encrypt.
	//
	// +optional
	ACME *ACME `json:"acme,omitempty"`

	// CFSSL has a remote cfssl or multirootca server sign.
	//
	// +optional
	CFSSL *CFSSL `json:"cfssl,omitempty"`

	// Venafi asks Venafi Trust Protection Platform or CyberArk Certificate Manager.
	//
	// +optional
	Venafi *Venafi `json:"venafi,omitempty"`

	// External asks a program of your own that serves the gRPC contract certwright.signer.v1.
	//
	// +optional
	External *External `json:"external,omitempty"`
}

// SecretRef names a Secret in the namespace that Certwright runs in.
type SecretRef struct {
	// Name of the Secret.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SecretKeyRef names one entry of a Secret in the namespace that Certwright runs in.
type SecretKeyRef struct {
	// Name of the Secret.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Key of the entry in the Secret's data.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// Server says how to reach a server over HTTPS. Plain HTTP is refused, as credentials travel there.
type Server struct {
	// URL of the server, such as https://vault.example.com:8200.
	//
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https://[^\s/?#@]+(/[^\s?#]*)?$`
	URL string `json:"url"`

	// CABundle holds the certificates in PEM that the server's own certificate must lead to. Default: the public roots that
	// come with Certwright's image.
	//
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`

	// ServerName is the name that the server's certificate must have, if it is not the URL's.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServerName string `json:"serverName,omitempty"`
}
