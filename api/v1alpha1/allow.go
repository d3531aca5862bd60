// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Allow lists all that the selected requesters may ask for. What it leaves out it allows nothing of. In every list of patterns these placeholders stand for facts about the requester,
// which come from the cluster and never from the request; a pattern whose placeholder has no value matches nothing:
//
//	{namespace}       the requester's namespace
//	{serviceAccount}  the name of its service account
//	{pod}             the name of its pod, which the pod's author chooses: keep it where no other name could stand
//	{hostname}        the host name of its pod, inside a Service's name: only with a headless Service that is its subdomain
//	{service}         each Service in its namespace whose selector selects its pod; none if more than 100 do
//	{trustDomain}     the SPIFFE trust domain of the installation
//	{clusterDomain}   the DNS domain of the cluster
//
// In DNS names, and in the hosts of URIs and email addresses, a placeholder other than the two domains stands for one label: a
// service account named "a.b" matches nothing there. Two placeholders need a separator between them that neither can hold.
type Allow struct {
	// DNSNames are patterns such as "{service}.{namespace}.svc". A label that is * stands for exactly one label.
	//
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=set
	// +optional
	DNSNames []string `json:"dnsNames,omitempty"`

	// Wildcards also allows wildcard names, such as *.example.com, where a pattern in dnsNames has * as its first label.
	// Without it, * in a pattern stands for a real label only.
	//
	// +optional
	Wildcards bool `json:"wildcards,omitempty"`

	// URIs are patterns such as "spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}". A path segment that is *
	// stands for exactly one segment.
	//
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=2048
	// +listType=set
	// +optional
	URIs []string `json:"uris,omitempty"`

	// IPAddresses are CIDRs, single addresses, or "pod": the addresses of the requester's own pod.
	//
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=set
	// +optional
	IPAddresses []string `json:"ipAddresses,omitempty"`

	// EmailAddresses are addresses such as "ops@example.com", or "*@example.com" for every address of a domain.
	//
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=320
	// +listType=set
	// +optional
	EmailAddresses []string `json:"emailAddresses,omitempty"`

	// CommonNames are patterns for the subject's common name; * stands for any run of characters.
	//
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=set
	// +optional
	CommonNames []string `json:"commonNames,omitempty"`

	// Subject allows values of the subject's other attributes.
	//
	// +optional
	Subject Subject `json:"subject,omitempty"`

	// Usages are the key usages that may be asked for.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=set
	// +optional
	Usages []certificatesv1.KeyUsage `json:"usages,omitempty"`

	// Keys are the kinds of keys that may be certified.
	//
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:default={{algorithm: ECDSA},{algorithm: Ed25519},{algorithm: RSA, minSize: 2048}}
	// +listType=map
	// +listMapKey=algorithm
	Keys []Key `json:"keys,omitempty"`

	// IsCA allows CA certificates, if the Signer's limits do too.
	//
	// +optional
	IsCA bool `json:"isCA,omitempty"`

	// MaxDuration shortens the lifetime of what this policy permits. Default: the Signer's limit alone holds.
	//
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('30s')",message="maxDuration must be at least 30s"
	// +optional
	MaxDuration *metav1.Duration `json:"maxDuration,omitzero"`
}

// Subject lists, for each attribute of a subject's distinguished name (RFC 5280, section 4.1.2.6), the values that may be
// asked for; * stands for any run of characters.
type Subject struct {
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	Organizations []string `json:"organizations,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	OrganizationalUnits []string `json:"organizationalUnits,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	Countries []string `json:"countries,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	Provinces []string `json:"provinces,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	Localities []string `json:"localities,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	StreetAddresses []string `json:"streetAddresses,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	PostalCodes []string `json:"postalCodes,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +optional
	SerialNumbers []string `json:"serialNumbers,omitempty"`
}

// Key is one kind of key that may be certified.
type Key struct {
	// Algorithm of the key.
	//
	// +kubebuilder:validation:Enum=ECDSA;Ed25519;RSA
	Algorithm KeyAlgorithm `json:"algorithm"`

	// MinSize is the smallest size in bits: of the modulus (RSA) or of the curve's field (ECDSA).
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=8192
	// +optional
	MinSize int `json:"minSize,omitempty"`
}

// KeyAlgorithm is the kind of a public key.
type KeyAlgorithm string

const (
	// ECDSA on the curves P-256, P-384 and P-521.
	ECDSA KeyAlgorithm = "ECDSA"
	// Ed25519 as in RFC 8410.
	Ed25519 KeyAlgorithm = "Ed25519"
	// RSA of 2048 bits and more.
	RSA KeyAlgorithm = "RSA"
)
