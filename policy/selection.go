// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/certwright/certwright/policy/pattern"
)

// selects reports whether the policy speaks of this request at all: by its signerName, who made it, and the match conditions.
func (e *evaluation) selects() bool {
	return e.among("spec.signerNames", e.policy.signerNames, []string{e.req.SignerName}, equal) &&
		e.selectsRequester() && e.matchConditions()
}

func equal(entry, value string) bool { return entry == value }

func (e *evaluation) selectsRequester() bool {
	r := &e.policy.requesters
	user := e.among("spec.requesters.users", r.users, []string{e.req.Requester.Username}, equal)
	group := e.among("spec.requesters.groups", r.groups, e.req.Requester.Groups, equal)
	byServiceAccount := r.namespaces != nil && len(r.serviceAccounts) > 0
	serviceAccount := byServiceAccount && e.selectsServiceAccount()
	if len(r.users)+len(r.groups) == 0 && !byServiceAccount {
		e.selection(false, func() Check { return Check{Path: "spec.requesters", Message: "the policy selects nobody"} })
	}
	return user || group || serviceAccount
}

// among reports whether one of the values asked for is among the entries of a list in the policy.
func (e *evaluation) among(path string, entries, asked []string, match func(entry, value string) bool) bool {
	if len(entries) == 0 {
		return false
	}
	matches := func(entry string) bool {
		return slices.ContainsFunc(asked, func(value string) bool { return match(entry, value) })
	}
	return e.selection(slices.ContainsFunc(entries, matches), func() Check {
		c := Check{Path: path, Asked: each(asked, strconv.Quote), Message: "wants one of " + list(each(entries, strconv.Quote))}
		for i, entry := range entries {
			if matches(entry) {
				c.Used = append(c.Used, index(path, i))
			}
		}
		return c
	})
}

func (e *evaluation) selectsServiceAccount() bool {
	r := &e.policy.requesters
	var asked []string
	if e.isServiceAccount {
		asked = []string{e.serviceAccount}
	}
	namespace := e.selectsNamespace(r.namespaces)
	name := e.among("spec.requesters.serviceAccounts", r.serviceAccounts, asked, pattern.MatchGlob)
	return e.selectsPod(r.pods) && namespace && name
}

func (e *evaluation) selectsNamespace(selector labels.Selector) bool {
	const path = "spec.requesters.namespaceSelector"
	known := e.isServiceAccount && e.facts.Namespace != nil && e.facts.Namespace.Name == e.namespace
	return e.selection(known && selector.Matches(labels.Set(e.facts.Namespace.Labels)), func() Check {
		switch {
		case !e.isServiceAccount:
			return Check{Path: path, Message: "the requester is no service account"}
		case !known:
			return Check{Path: path, Asked: []string{strconv.Quote(e.namespace)}, Message: fmt.Sprintf("nothing is known about namespace %q, as of one that is gone", e.namespace)}
		}
		return e.labels(path, selector, "namespace", e.namespace, e.facts.Namespace.Labels)
	})
}

// selectsPod also selects a requester whose pod does not count: there is no telling the pod's labels, it is never permitted
// anything, and so it learns why.
func (e *evaluation) selectsPod(selector labels.Selector) bool {
	if selector == nil {
		return true
	}
	const path = "spec.requesters.podSelector"
	pod, problem := e.facts.Pod, e.facts.PodProblem
	return e.selection(problem != "" || pod != nil && selector.Matches(labels.Set(pod.Labels)), func() Check {
		switch {
		case problem != "":
			return Check{Path: path, Message: fmt.Sprintf("unknown, as %s: selected, to be refused for that", problem)}
		case pod == nil:
			return Check{Path: path, Message: "the requester's token is bound to no pod"}
		}
		return e.labels(path, selector, "pod", pod.Name, pod.Labels)
	})
}

// labels describes what became of a selector.
func (e *evaluation) labels(path string, selector labels.Selector, kind, name string, set labels.Set) Check {
	c := Check{Path: path, Asked: []string{strconv.Quote(name)}}
	if selector.Matches(set) {
		c.Used = []string{path}
	}
	has := "no labels"
	if len(set) > 0 {
		has = "labels " + strings.ReplaceAll(set.String(), ",", ", ")
	}
	wants := "selects all"
	if !selector.Empty() {
		wants = "wants " + selector.String()
	}
	c.Message = fmt.Sprintf("%s %q has %s, the selector %s", kind, name, has, wants)
	return c
}
