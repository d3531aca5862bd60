// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Signer binds one signerName to the backends that sign for it, to the limits that hold whoever approved a request, and
// to the trust bundle that is published for those who verify what it signs.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=certwright
// +kubebuilder:printcolumn:name="Signer name",type=string,JSONPath=`.spec.signerName`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Serving",type=string,JSONPath=`.status.serving`
// +kubebuilder:printcolumn:name="CA expires",type=string,JSONPath=`.status.caNotAfter`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type Signer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SignerSpec   `json:"spec"`
	Status SignerStatus `json:"status,omitempty"`
}

// SignerSpec is what an administrator decides about a signerName.
type SignerSpec struct {
	// SignerName is the spec.signerName of the requests that this Signer signs, such as "example.com/internal". It cannot
	// change, and belongs to one Signer only. The domains kubernetes.io and *.kubernetes.io are Kubernetes' own.
	//
	// +kubebuilder:validation:MaxLength=571
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="signerName cannot change: create another Signer instead"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([^/]*[.])?kubernetes[.]io/')",message="signerNames under kubernetes.io belong to Kubernetes: use a domain of your own, such as example.com/internal"
	SignerName string `json:"signerName"`

	// Backends sign, in this order: the next one serves while the one before it cannot.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	Backends []Backend `json:"backends"`

	// Limits hold for every certificate of this Signer, whoever approved the request and whatever a policy allows.
	//
	// +kubebuilder:default={}
	Limits Limits `json:"limits,omitempty"`

	// PodCertificates has this Signer sign PodCertificateRequests, by which kubelets ask for certificates of pods (KEP-4317), and says what
	// those get. Without it they are left alone.
	//
	// +optional
	PodCertificates *PodCertificates `json:"podCertificates,omitempty"`

	// TrustBundle says what else is published for those who verify. Default: the trust anchors of the backends alone.
	//
	// +optional
	TrustBundle TrustBundle `json:"trustBundle,omitzero"`
}

// Limits bound what a Signer signs. A limit that is left out is the careful default named beside it.
type Limits struct {
	// MaxDuration is the longest lifetime of a certificate. A request for more is shortened, not refused, as
	// spec.expirationSeconds of a CertificateSigningRequest is a wish. It is also the lifetime of those that name none.
	//
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('30s')",message="maxDuration must be at least 30s"
	MaxDuration metav1.Duration `json:"maxDuration,omitzero"`

	// Usages that may be signed.
	//
	// +kubebuilder:default={"digital signature","key encipherment","server auth","client auth"}
	// +kubebuilder:validation:MaxItems=32
	// +listType=set
	Usages []certificatesv1.KeyUsage `json:"usages,omitempty"`

	// IsCA lets this Signer sign CA certificates, if a policy allows them too. Default: never.
	//
	// +optional
	IsCA bool `json:"isCA,omitempty"`

	// PermittedDNSDomains bounds DNS names as a name constraint does (RFC 5280, section 4.2.1.10): "example.com" stands for
	// itself and every name below it. Default: no bound.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	PermittedDNSDomains []string `json:"permittedDNSDomains,omitempty"`

	// PermittedURIDomains bounds the host of URIs in the same way; for a SPIFFE ID that is the trust domain, which has no
	// names below it and is compared whole. Default: no bound.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	PermittedURIDomains []string `json:"permittedURIDomains,omitempty"`

	// PermittedIPRanges bounds IP addresses, as CIDRs. Default: no bound.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	PermittedIPRanges []string `json:"permittedIPRanges,omitempty"`

	// PermittedEmailDomains bounds the part behind the @ of email addresses, compared whole. Default: no bound.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	PermittedEmailDomains []string `json:"permittedEmailDomains,omitempty"`
}

// SignerStatus says whether a Signer can sign, and if not, why.
type SignerStatus struct {
	// ObservedGeneration is the generation that the rest of the status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// CANotAfter is when the first CA certificate of this Signer's backends expires.
	//
	// +optional
	CANotAfter *metav1.Time `json:"caNotAfter,omitempty"`

	// Serving is the name of the backend that is asked first now; empty if none can sign.
	//
	// +optional
	Serving string `json:"serving,omitempty"`

	// Backends says what is known of each backend and the CA behind it, also while it is in trouble. A managed CA that is known here, and
	// has not expired, is never replaced by a new one without a person's word.
	//
	// +listType=map
	// +listMapKey=name
	// +optional
	Backends []BackendStatus `json:"backends,omitempty"`

	// TrustBundle names what was published for those who verify this Signer's certificates, such as
	// "clustertrustbundle/example.com:internal:certwright".
	//
	// +optional
	TrustBundle string `json:"trustBundle,omitempty"`

	// Conditions holds Ready: whether something can sign now. Its reason is Degraded while not all backends can.
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BackendState says whether a backend is asked.
type BackendState string

// States of a backend.
const (
	// BackendServing is asked in its turn.
	BackendServing BackendState = "Serving"
	// BackendDown failed too often: it is not asked but for a probe now and then, until one succeeds.
	BackendDown BackendState = "Down"
	// BackendProbing was down and is being tried.
	BackendProbing BackendState = "Probing"
)

// BackendStatus is what is known of a backend and of the CA behind it.
type BackendStatus struct {
	// Name of the backend.
	Name string `json:"name"`

	// State says whether it is asked: Serving, Down or Probing.
	//
	// +optional
	State BackendState `json:"state,omitempty"`

	// Since is when State became what it is.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// Reason and Message say what is wrong with it; both are empty if nothing is.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`

	// Root is the SHA-256 fingerprint of the root that those who verify must trust, in hexadecimal digits. Empty if not known.
	//
	// +optional
	Root string `json:"root,omitempty"`

	// Issuer is the SHA-256 fingerprint of the CA certificate that signs, in hexadecimal digits. Empty if not known.
	//
	// +optional
	Issuer string `json:"issuer,omitempty"`

	// CANotAfter is when the first CA certificate between the root and what is signed expires, the root included.
	//
	// +optional
	CANotAfter *metav1.Time `json:"caNotAfter,omitempty"`

	// Rotation says how far the replacement of the root is; absent while none is under way.
	//
	// +optional
	Rotation *Rotation `json:"rotation,omitempty"`
}

// RotationPhase is a phase of the replacement of a root.
type RotationPhase string

// Phases of the replacement of a root.
const (
	// RotationPublishing publishes the new root beside the old one, which still signs, until everybody who verifies had time to learn of it.
	RotationPublishing RotationPhase = "Publishing"
	// RotationSigning signs with the new root, and keeps the old one published until the last certificate that needs it has expired.
	RotationSigning RotationPhase = "Signing"
)

// Rotation is the replacement of the root of a CA by another one.
type Rotation struct {
	// Phase is Publishing or Signing.
	Phase RotationPhase `json:"phase"`

	// Since is when the phase began.
	Since metav1.Time `json:"since"`

	// Until is when the phase ends at the earliest.
	//
	// +optional
	Until *metav1.Time `json:"until,omitempty"`

	// OldRoot and NewRoot are SHA-256 fingerprints in hexadecimal digits.
	OldRoot string `json:"oldRoot"`
	NewRoot string `json:"newRoot"`
}

// SignerList is a list of Signers.
//
// +kubebuilder:object:root=true
type SignerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Signer `json:"items"`
}
