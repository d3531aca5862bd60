// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
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
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
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

	// +kubebuilder:default={}
	Allow Allow `json:"allow,omitempty"`

	// MatchConditions narrow down which requests of these requesters the policy speaks of: all of them must be true.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=name
	// +optional
	MatchConditions []MatchCondition `json:"matchConditions,omitempty"`

	// Validations must all be true of a request for this policy to permit it. They only ever narrow down what allow allows.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Validations []Validation `json:"validations,omitempty"`

	// Approval says who approves what this policy permits: Automatic, at once; Manual, a person with
	// kubectl certificate approve.
	//
	// +kubebuilder:default=Automatic
	Approval Approval `json:"approval,omitempty"`

	// Quotas bound how much this policy approves. A request beyond them waits; it is never denied for that.
	//
	// +kubebuilder:validation:MaxItems=4
	// +listType=map
	// +listMapKey=per
	// +optional
	Quotas []Quota `json:"quotas,omitempty"`

	// Mode says whether the policy decides: Enforce; or only reports what it would have decided: Audit, by metrics, events
	// and its status, so that a stricter policy can be tried on live requests before it bites.
	//
	// +kubebuilder:default=Enforce
	Mode Mode `json:"mode,omitempty"`
}

// Mode says whether a policy decides.
//
// +kubebuilder:validation:Enum=Enforce;Audit
type Mode string

const (
	// ModeEnforce lets the policy decide.
	ModeEnforce Mode = "Enforce"
	// ModeAudit lets the policy report what it would have decided, and never decide.
	ModeAudit Mode = "Audit"
)

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
// +kubebuilder:validation:XValidation:rule="!has(self.podSelector) || has(self.namespaceSelector)",message="podSelector narrows down service accounts: set namespaceSelector and serviceAccounts as well"
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

	// PodSelector narrows the service accounts down to tokens that are bound to a live pod with these labels. Whoever
	// creates a pod chooses its labels.
	//
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

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

// CertificatePolicyStatus says whether the policy is in force as it stands.
type CertificatePolicyStatus struct {
	// ObservedGeneration is the generation that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions holds Ready. While it is False, the last good version of the policy stays in force where it is known.
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Audit counts what the policy would have decided, in mode Audit.
	//
	// +optional
	Audit *AuditStatus `json:"audit,omitempty"`
}

// AuditStatus counts what a policy in mode Audit would have decided.
type AuditStatus struct {
	// Since is when counting began: when the policy got its present spec, or when the approver that counts started.
	Since metav1.Time `json:"since"`
	// Permitted is how many requests the policy would have permitted.
	Permitted int64 `json:"permitted"`
	// Denied is how many requests the policy selected and would not have permitted.
	Denied int64 `json:"denied"`
	// LastDenied is the newest of those.
	//
	// +optional
	LastDenied *AuditDenial `json:"lastDenied,omitempty"`
}

// AuditDenial is a request that a policy in mode Audit would not have permitted.
type AuditDenial struct {
	// Request is the name of the CertificateSigningRequest.
	Request string `json:"request"`
	// Time of the decision.
	Time metav1.Time `json:"time"`
	// Message names every field that was not allowed.
	Message string `json:"message"`
}

// CertificatePolicyList is a list of CertificatePolicies.
//
// +kubebuilder:object:root=true
type CertificatePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CertificatePolicy `json:"items"`
}
