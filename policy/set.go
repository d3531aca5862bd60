// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/certwright/certwright/csr"
)

// Set is the policies for one signerName with an index, so that a decision looks only at those that may select the request. It is
// safe for concurrent use, as it never changes.
type Set struct {
	signerName string
	policies   []*Policy
	// users and groups say which policies, by position, may select whom.
	users, groups map[string][]int
	// namespaces has the policies for service accounts of namespaces with one of these labels, such as the one that Kubernetes
	// gives every namespace with its name.
	namespaces map[label][]int
	// anywhere has the policies for service accounts whose selector asks for no label in particular.
	anywhere []int
}

type label struct{ key, value string }

// NewSet returns the set of those of these policies that speak of the signerName.
func NewSet(signerName string, policies []*Policy) *Set {
	s := &Set{signerName: signerName, users: map[string][]int{}, groups: map[string][]int{}, namespaces: map[label][]int{}}
	for _, p := range policies {
		if p.SpeaksOf(signerName) {
			s.add(p)
		}
	}
	return s
}

func (s *Set) add(p *Policy) {
	i, r := len(s.policies), &p.requesters
	s.policies = append(s.policies, p)
	for _, user := range r.users {
		s.users[user] = append(s.users[user], i)
	}
	for _, group := range r.groups {
		s.groups[group] = append(s.groups[group], i)
	}
	if r.namespaces == nil || len(r.serviceAccounts) == 0 {
		return
	}
	pinned := pinnedLabels(r.namespaces)
	if len(pinned) == 0 {
		s.anywhere = append(s.anywhere, i)
	}
	for _, l := range pinned {
		s.namespaces[l] = append(s.namespaces[l], i)
	}
}

// pinnedLabels returns labels of which a namespace must have one for the selector to select it; none if there are no such
// labels. A namespace's name, which is its own, is better than a label that many have.
func pinnedLabels(selector labels.Selector) []label {
	var pinned []label
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if len(pinned) == 0 || r.Key() == corev1.LabelMetadataName {
				pinned = each(r.ValuesUnsorted(), func(value string) label { return label{r.Key(), value} })
			}
		}
	}
	return pinned
}

// Decide decides about a request as the function Decide does with all policies of the set.
func (s *Set) Decide(req csr.Request, facts Facts) Decision {
	if req.SignerName != s.signerName {
		return Decision{}
	}
	candidates := slices.Clone(s.users[req.Requester.Username])
	for _, group := range req.Requester.Groups {
		candidates = append(candidates, s.groups[group]...)
	}
	if facts.Namespace != nil {
		for key, value := range facts.Namespace.Labels {
			candidates = append(candidates, s.namespaces[label{key, value}]...)
		}
		candidates = append(candidates, s.anywhere...)
	}
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	policies := make([]*Policy, 0, len(candidates))
	for _, i := range candidates {
		policies = append(policies, s.policies[i])
	}
	return Decide(req, facts, policies)
}
