// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CA says where the CA certificate and its key come from. Exactly one source is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.managed), has(self.secretRef), has(self.key)].exists_one(set, set)",message="exactly one source of the CA must be set: managed, secretRef or key"
type CA struct {
	// Managed lets Certwright make a root and an intermediate and keep them in a Secret of its own namespace.
	//
	// +optional
	Managed *ManagedCA `json:"managed,omitempty"`

	// SecretRef names a Secret of type kubernetes.io/tls in Certwright's own namespace. tls.crt holds the CA certificate,
	// followed by the chain up to its root if it is an intermediate; tls.key holds its key. A change is picked up at once.
	//
	// +optional
	SecretRef *SecretRef `json:"secretRef,omitempty"`

	// Key is kept outside Kubernetes, in an HSM or a KMS, and never leaves it. The image certwright-kms can use one.
	//
	// +optional
	Key *CAKey `json:"key,omitempty"`

	// TrustPropagation is how long everybody who verifies has to learn of a new root, from when it was published until something is signed
	// that needs it: kubelets bring trust bundles to pods within minutes, and programs read them when they do. It holds for roots that
	// Certwright makes and for those that appear in a Secret.
	//
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="trustPropagation must be from 1s to 720h"
	TrustPropagation metav1.Duration `json:"trustPropagation,omitzero"`

	// CRLDistributionPoints are URLs of revocation lists to write into certificates, by http or ldap (RFC 5280, section 4.2.1.13).
	//
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=2048
	// +listType=set
	// +optional
	CRLDistributionPoints []string `json:"crlDistributionPoints,omitempty"`

	// OCSPServers are URLs of OCSP responders to write into certificates, by http (RFC 5280, section 4.2.2.1).
	//
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=2048
	// +listType=set
	// +optional
	OCSPServers []string `json:"ocspServers,omitempty"`

	// IssuingCertificateURLs are URLs of the CA's own certificate to write into certificates, by http or ldap (RFC 5280, section 4.2.2.1).
	//
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=2048
	// +listType=set
	// +optional
	IssuingCertificateURLs []string `json:"issuingCertificateURLs,omitempty"`
}

// CAKey is a CA whose key is kept outside Kubernetes.
type CAKey struct {
	// URI of the key: pkcs11: (RFC 7512, with module-path or module-name), awskms:, cloudkms: or azurekms:. A PIN does not belong here.
	//
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^(pkcs11|awskms|cloudkms|azurekms):[^\s]+$`
	URI string `json:"uri"`

	// PINRef is where the PIN of an HSM's token is.
	//
	// +optional
	PINRef *SecretKeyRef `json:"pinRef,omitempty"`

	// Chain holds the CA certificate of that key in PEM, followed by the chain up to its root if it is an intermediate.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Chain string `json:"chain"`
}

// ManagedCA describes the root and the intermediate that Certwright makes.
type ManagedCA struct {
	// CommonName is the start of both common names, which get "root" and "intermediate" appended. Default: the signerName.
	//
	// +kubebuilder:validation:MaxLength=50
	// +optional
	CommonName string `json:"commonName,omitempty"`

	// KeyAlgorithm is the kind of both keys.
	//
	// +kubebuilder:validation:Enum=ECDSA-P256;ECDSA-P384;Ed25519;RSA-3072;RSA-4096
	// +kubebuilder:default=ECDSA-P256
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`

	// RootDuration is the lifetime of the root, which is replaced by a new one, in phases that no verifier notices, when two thirds of it
	// have passed. Default: ten years.
	//
	// +kubebuilder:default="87600h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h')",message="rootDuration must be at least 1h"
	RootDuration metav1.Duration `json:"rootDuration,omitzero"`

	// IntermediateDuration is the lifetime of the intermediate, which is replaced by a new one, with a new key, when two
	// thirds of it have passed. Default: one year.
	//
	// +kubebuilder:default="8760h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h')",message="intermediateDuration must be at least 1h"
	IntermediateDuration metav1.Duration `json:"intermediateDuration,omitzero"`
}
