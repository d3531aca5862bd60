// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Quota bounds the requests that a policy approves for each of some kind of requester: how many within a time, as a token
// bucket, and how many at once.
//
// +kubebuilder:validation:XValidation:rule="has(self.requests) || has(self.maxPending)",message="set requests, maxPending or both: a quota without either bounds nothing"
// +kubebuilder:validation:XValidation:rule="has(self.requests) || !has(self.burst)",message="burst goes with requests"
type Quota struct {
	// Per says whose requests are counted together: those of the whole Policy, or of each Namespace, ServiceAccount or Pod.
	// A requester that is not of that kind, such as a person, is counted by itself.
	Per QuotaSubject `json:"per"`

	// Requests is how many may be approved in each period.
	//
	// +kubebuilder:validation:Minimum=1
	// +optional
	Requests int32 `json:"requests,omitempty"`

	// Period of requests. Default: 1h.
	//
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="period must be from 1s to 720h"
	// +kubebuilder:default="1h"
	Period metav1.Duration `json:"period,omitzero"`

	// Burst is how many may be approved at once after a time without requests. Default: requests.
	//
	// +kubebuilder:validation:Minimum=1
	// +optional
	Burst int32 `json:"burst,omitempty"`

	// MaxPending is how many requests may be unfinished at once: approved and not yet issued or, where approval is Manual,
	// waiting for a person.
	//
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxPending int32 `json:"maxPending,omitempty"`
}

// QuotaSubject says whose requests a quota counts together.
//
// +kubebuilder:validation:Enum=Policy;Namespace;ServiceAccount;Pod
type QuotaSubject string

const (
	// PerPolicy counts all requests of the policy together.
	PerPolicy QuotaSubject = "Policy"
	// PerNamespace counts the requests of each namespace together.
	PerNamespace QuotaSubject = "Namespace"
	// PerServiceAccount counts the requests of each service account together.
	PerServiceAccount QuotaSubject = "ServiceAccount"
	// PerPod counts the requests of each pod together.
	PerPod QuotaSubject = "Pod"
)
