// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CertificatePolicy says who may ask which signerNames for what. A request is permitted when one policy that selects its
// requester allows all of it; policies add up, and never subtract from each other.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=certpol,categories=certwright
// +kubebuilder:printcolumn:name="Signer names",type=string,JSONPath=`.spec.signerNames`
// +kubebuilder:printcolumn:name="Approval",type=string,JSONPath=`.spec.approval`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type CertificatePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CertificatePolicySpec   `json:"spec"`
	Status CertificatePolicyStatus `json:"status,omitempty"`
}

// CertificatePolicySpec is what an administrator decides about a group of requesters.
type CertificatePolicySpec struct {
	// SignerNames are the signerNames that this policy speaks of, each named in full.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=571
	// +kubebuilder:validation:XValidation:rule="self.all(n, !n.matches('^([^/]*[.])?kubernetes[.]io/'))",message="signerNames under kubernetes.io belong to Kubernetes and are never handled"
	// +listType=set
	SignerNames []string `json:"signerNames"`

	// Requesters selects who this policy speaks of. Nobody is selected by default.
	//
	// +kubebuilder:default={}
	Requesters Requesters `json:"requesters,omitempty"`

	// Allow lists all that the selected requesters may ask for. What it leaves out it allows nothing of.
	//
	// +kubebuilder:default={}
	Allow Allow `json:"allow,omitempty"`

	// Approval says who approves what this policy permits: Automatic, at once; Manual, a person with
	// kubectl certificate approve.
	//
	// +kubebuilder:default=Automatic
	Approval Approval `json:"approval,omitempty"`
}

// Approval says who approves a permitted request.
//
// +kubebuilder:validation:Enum=Automatic;Manual
type Approval string

const (
	// ApprovalAutomatic approves what the policy permits at once.
	ApprovalAutomatic Approval = "Automatic"
	// ApprovalManual leaves what the policy permits to a person.
	ApprovalManual Approval = "Manual"
)

// Requesters selects those who ask, by what the API server vouches for. A requester is selected as a service account, or
// as a user, or by a group.
//
// +kubebuilder:validation:XValidation:rule="has(self.namespaceSelector) == (has(self.serviceAccounts) && self.serviceAccounts.size() > 0)",message="namespaceSelector and serviceAccounts select service accounts together: set both or neither ({} selects every namespace, \"*\" every service account)"
type Requesters struct {
	// NamespaceSelector selects, by label, the namespaces whose service accounts may be selected; {} selects all.
	//
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// ServiceAccounts are names of service accounts in those namespaces; * stands for any run of characters.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`

	// Users are user names, compared whole.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +listType=set
	// +optional
	Users []string `json:"users,omitempty"`

	// Groups are group names, compared whole; one in common is enough.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +listType=set
	// +optional
	Groups []string `json:"groups,omitempty"`
}

// Allow lists what may be asked for. In every list of patterns these placeholders stand for facts about the requester,
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
	MaxDuration *metav1.Duration `json:"maxDuration,omitempty"`
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

// CertificatePolicyStatus says whether the policy is in force as it stands.
type CertificatePolicyStatus struct {
	// ObservedGeneration is the generation that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions holds Ready. While it is False, the last good version of the policy stays in force where it is known.
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CertificatePolicyList is a list of CertificatePolicies.
//
// +kubebuilder:object:root=true
type CertificatePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CertificatePolicy `json:"items"`
}
