// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policytest runs test cases for CertificatePolicies: a request and what would be known about its requester go in,
// and the decision of the code that decides in a cluster is held against the one that the case expects. It also says which
// rules of the policies no case has touched. No cluster is needed.
package policytest

import (
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy/casefile"
)

// Kind is the kind of documents that hold test cases. They have the apiVersion of CertificatePolicy, and no cluster knows them.
const Kind = "PolicyTest"

// Test is one document with test cases.
type Test struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Policies are files and directories with the policies under test, relative to the file. Default: the policies in the
	// directory of the file.
	Policies []string `json:"policies,omitempty"`
	// Request and Facts are what all cases have in common. What a case says is laid over them field by field: a list replaces
	// the list, and null takes a field away.
	Request *casefile.Request `json:"request,omitempty"`
	Facts   *casefile.Facts   `json:"facts,omitempty"`
	Cases   []Case            `json:"cases"`
}

// Case is one request and what is expected of the policies.
type Case struct {
	// Name of the case, of which there is one in a document.
	Name string `json:"name"`
	// Request in words.
	Request *casefile.Request `json:"request,omitempty"`
	// RequestFile is a file with the request, relative to the file of the test: a CertificateSigningRequest, or PEM, for which
	// Request says signerName, usages and requester.
	RequestFile string `json:"requestFile,omitempty"`
	// Facts are what the cluster would know about the requester.
	Facts  *casefile.Facts `json:"facts,omitempty"`
	Expect Expect          `json:"expect"`
}

// Expect is what a case expects of the decision. Only the verdict must be said; what is left out is not looked at.
type Expect struct {
	// Verdict is Permit, Deny or NoOpinion.
	Verdict string `json:"verdict"`
	// Policy is the policy that permits, or one that denies.
	Policy string `json:"policy,omitempty"`
	// Approval is Automatic or Manual.
	Approval v1alpha1.Approval `json:"approval,omitempty"`
	// MaxDuration is the longest lifetime that is permitted, such as 24h.
	MaxDuration string `json:"maxDuration,omitempty"`
	// Violations are all that there are, in any order; of Policy only, if that is set.
	Violations []Violation `json:"violations,omitempty"`
	// Audits are all policies in mode Audit that select the request, in any order.
	Audits []Audit `json:"audits,omitempty"`
}

// Violation is a violation that a case expects.
type Violation struct {
	// Policy that finds it. Default: any.
	Policy string `json:"policy,omitempty"`
	// Field of the request, such as dnsNames, or the expression that refuses it, such as validations[0].
	Field string `json:"field"`
	// Values that are not allowed: all of them, in any order. Default: any.
	Values []string `json:"values,omitempty"`
	// Contains is a part of the message.
	Contains string `json:"contains,omitempty"`
}

// Audit is what a case expects of a policy in mode Audit.
type Audit struct {
	Policy string `json:"policy"`
	// Violations are all that it finds, in any order; none if it would permit.
	Violations []Violation `json:"violations,omitempty"`
}
