// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// MatchCondition is a CEL expression that says whether a policy speaks of a request. It sees the variables of a Validation.
type MatchCondition struct {
	// Name of the condition, for messages.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// Expression is CEL and yields a bool. A request for which it fails to yield one is selected and not permitted.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression"`
}

// Validation is a CEL expression that must be true of a request. Expressions have Kubernetes' own CEL libraries and these
// variables; all but request come from the cluster:
//
//	request          signerName, dnsNames, ipAddresses, uris, emailAddresses, subject, key, usages, duration, isCA
//	requester        username, uid, groups, namespace, serviceAccount, pod (name, labels, annotations, node, owner, ips)
//	namespaceObject  name, labels; null for a requester that is no service account
//	services         the Services that select the requester's pod: name, headless
type Validation struct {
	// Expression is CEL and yields a bool. A request for which it fails to yield one is not permitted.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression"`

	// Message says what is allowed, to whom asked for something else. Default: the expression itself.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// MessageExpression is CEL and yields the message as a string. Where it fails, Message holds.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	MessageExpression string `json:"messageExpression,omitempty"`
}
