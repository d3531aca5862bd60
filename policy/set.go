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

// Set is policies with an index, so that a decision looks only at those that may select the request. It is safe for
// concurrent use, as it never changes.
type Set struct {
	policies []*Policy
	signers  map[string]*signerIndex
}

// signerIndex says which policies of a set, by position, may select whom for one signerName.
type signerIndex struct {
	users  map[string][]int
	groups map[string][]int
	// namespaces has the policies for service accounts of namespaces with one of these labels, such as the one that Kubernetes
	// gives every namespace with its name.
	namespaces map[label][]int
	// anywhere has the policies for service accounts whose selector asks for no label in particular.
	anywhere []int
}

type label struct{ key, value string }

// NewSet returns the set of these policies.
func NewSet(policies []*Policy) *Set {
	s := &Set{policies: slices.Clone(policies), signers: map[string]*signerIndex{}}
	for i, p := range s.policies {
		for _, name := range p.signerNames {
			x := s.signers[name]
			if x == nil {
				x = &signerIndex{users: map[string][]int{}, groups: map[string][]int{}, namespaces: map[label][]int{}}
				s.signers[name] = x
			}
			x.add(i, &p.requesters)
		}
	}
	return s
}

func (x *signerIndex) add(i int, r *requesters) {
	for _, user := range r.users {
		x.users[user] = append(x.users[user], i)
	}
	for _, group := range r.groups {
		x.groups[group] = append(x.groups[group], i)
	}
	if r.namespaces == nil || len(r.serviceAccounts) == 0 {
		return
	}
	pinned := pinnedLabels(r.namespaces)
	if len(pinned) == 0 {
		x.anywhere = append(x.anywhere, i)
	}
	for _, l := range pinned {
		x.namespaces[l] = append(x.namespaces[l], i)
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
	x := s.signers[req.SignerName]
	if x == nil {
		return Decision{}
	}
	candidates := slices.Clone(x.users[req.Requester.Username])
	for _, group := range req.Requester.Groups {
		candidates = append(candidates, x.groups[group]...)
	}
	if facts.Namespace != nil {
		for key, value := range facts.Namespace.Labels {
			candidates = append(candidates, x.namespaces[label{key, value}]...)
		}
		candidates = append(candidates, x.anywhere...)
	}
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	policies := make([]*Policy, 0, len(candidates))
	for _, i := range candidates {
		policies = append(policies, s.policies[i])
	}
	return Decide(req, facts, policies)
}
