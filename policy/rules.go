// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy/pattern"
)

// rules checks all that the request asks for.
func (e *evaluation) rules() {
	req, allow := &e.req, &e.policy.allow
	if e.facts.PodProblem != "" {
		v := Violation{Field: "requester", Values: []string{strconv.Quote(req.Requester.Username)}, Allowed: e.facts.PodProblem}
		e.outcome(&v, func() Check { return Check{Path: "spec.requesters", Asked: v.Values} })
	}
	e.names("commonNames", nonEmpty(req.Subject.CommonName), allow.commonNames, pattern.MatchGlob)
	for _, rule := range allow.subject {
		e.names(rule.field, nonEmpty(rule.requested(req.Subject)...), rule.patterns, pattern.MatchGlob)
	}
	e.dnsNames()
	e.patterns("uris", len(req.URIs), allow.uris,
		func(i int) string { return req.URIs[i].String() },
		func(text string, i int) bool { return pattern.MatchURI(text, req.URIs[i]) })
	e.ipAddresses()
	e.names("emailAddresses", req.EmailAddresses, allow.emailAddresses, pattern.MatchEmail)
	e.usages()
	e.key()
	e.isCA()
	e.maxDuration()
	e.validations()
}

// rule checks that each value asked for is allowed by an entry of a list in the policy.
type rule struct {
	asked   int                         // how many values the request asks for
	value   func(i int) string          // such a value, for people
	entries int                         // how many entries the list has
	allows  func(entry, value int) bool // whether an entry allows a value
	path    func(entry int) string      // of an entry
	allowed func() string               // what is allowed, for people
}

// check looks no further than the first entry that allows a value, unless somebody wants to know all that do.
func (e *evaluation) check(field string, r rule) {
	if r.asked == 0 {
		return
	}
	var refused []string
	var used []bool
	if e.notes != nil {
		used = make([]bool, r.entries)
	}
	for value := range r.asked {
		granted := false
		for entry := 0; entry < r.entries && (!granted || used != nil); entry++ {
			if !r.allows(entry, value) {
				continue
			}
			granted = true
			if used != nil {
				used[entry] = true
			}
		}
		if !granted {
			refused = append(refused, r.value(value))
		}
	}
	var v *Violation
	if len(refused) > 0 {
		v = &Violation{Field: field, Values: refused, Allowed: r.allowed()}
	}
	e.outcome(v, func() Check {
		c := Check{Path: "spec.allow." + field, Message: r.allowed()}
		for value := range r.asked {
			c.Asked = append(c.Asked, r.value(value))
		}
		for entry, used := range used {
			if path := r.path(entry); used && !slices.Contains(c.Used, path) {
				c.Used = append(c.Used, path)
			}
		}
		return c
	})
}

// index is the path of an entry of a list in the policy.
func index(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

func (e *evaluation) names(field string, requested []string, patterns []pattern.Template, match func(text, value string) bool) {
	e.patterns(field, len(requested), patterns,
		func(i int) string { return requested[i] },
		func(text string, i int) bool { return match(text, requested[i]) })
}

// patterns checks that each value asked for matches a pattern.
func (e *evaluation) patterns(field string, asked int, patterns []pattern.Template, value func(int) string, match func(text string, value int) bool) {
	if asked == 0 {
		return
	}
	type entry struct {
		text    string
		pattern int
	}
	expanded := make([]entry, 0, 2*len(patterns))
	for i, t := range patterns {
		for _, text := range e.expand(field, t).texts {
			expanded = append(expanded, entry{text, i})
		}
	}
	e.check(field, rule{
		asked:   asked,
		value:   func(i int) string { return strconv.Quote(value(i)) },
		entries: len(expanded),
		allows:  func(entry, i int) bool { return match(expanded[entry].text, i) },
		path:    func(entry int) string { return index("spec.allow."+field, expanded[entry].pattern) },
		allowed: func() string { return e.allowedNames(field, patterns) },
	})
}

func (e *evaluation) dnsNames() {
	allow := &e.policy.allow
	wildcard := false
	e.names("dnsNames", e.req.DNSNames, allow.dnsNames, func(text, name string) bool {
		matches := pattern.MatchDNSName(text, name, allow.wildcards)
		wildcard = wildcard || matches && strings.HasPrefix(name, "*")
		return matches
	})
	if wildcard && e.notes != nil {
		last := &e.notes.Rules[len(e.notes.Rules)-1]
		last.Used = append(last.Used, "spec.allow.wildcards")
	}
}

func (e *evaluation) ipAddresses() {
	requested, rules := e.req.IPAddresses, e.policy.allow.ipAddresses
	var own []netip.Addr
	if e.facts.Pod != nil {
		own = e.facts.Pod.IPs
	}
	e.check("ipAddresses", rule{
		asked:   len(requested),
		value:   func(i int) string { return requested[i].String() },
		entries: len(rules),
		allows: func(entry, i int) bool {
			return rules[entry].pod && slices.Contains(own, requested[i]) || rules[entry].prefix.Contains(requested[i])
		},
		path: func(entry int) string { return index("spec.allow.ipAddresses", entry) },
		allowed: func() string {
			var allowed []string
			for _, r := range rules {
				switch {
				case !r.pod:
					allowed = append(allowed, r.prefix.String())
				case len(own) == 0:
					allowed = append(allowed, "the pod's own, but the requester has no pod with an address of its own")
				default:
					allowed = append(allowed, fmt.Sprintf("the pod's own %v", own))
				}
			}
			return allowedList(allowed)
		},
	})
}

func (e *evaluation) usages() {
	requested, usages := e.req.Usages, e.policy.allow.usages
	quoted := func(usage certificatesv1.KeyUsage) string { return strconv.Quote(string(usage)) }
	e.check("usages", rule{
		asked:   len(requested),
		value:   func(i int) string { return quoted(requested[i]) },
		entries: len(usages),
		allows:  func(entry, i int) bool { return usages[entry] == requested[i] },
		path:    func(entry int) string { return index("spec.allow.usages", entry) },
		allowed: func() string { return allowedList(each(usages, quoted)) },
	})
}

func (e *evaluation) key() {
	key, keys := e.req.Key, e.policy.allow.keys
	e.check("keys", rule{
		asked:   1,
		value:   func(int) string { return fmt.Sprintf("%s of %d bits", key.Algorithm, key.Size) },
		entries: len(keys),
		allows: func(entry, _ int) bool {
			return string(keys[entry].Algorithm) == key.Algorithm && key.Size >= keys[entry].MinSize
		},
		path: func(entry int) string { return index("spec.allow.keys", entry) },
		allowed: func() string {
			return allowedList(each(keys, func(k v1alpha1.Key) string {
				if k.MinSize != 0 {
					return fmt.Sprintf("%s of at least %d bits", k.Algorithm, k.MinSize)
				}
				return string(k.Algorithm)
			}))
		},
	})
}

func (e *evaluation) isCA() {
	if !e.req.IsCA {
		return
	}
	isCA := e.policy.allow.isCA
	e.check("isCA", rule{
		asked:   1,
		value:   func(int) string { return "true" },
		entries: 1,
		allows:  func(int, int) bool { return isCA },
		path:    func(int) string { return "spec.allow.isCA" },
		allowed: func() string { return fmt.Sprintf("allowed: %t", isCA) },
	})
}

// maxDuration refuses nothing: the lifetime is shortened.
func (e *evaluation) maxDuration() {
	longest, asked := e.policy.allow.maxDuration, e.req.Duration
	if longest == 0 {
		return
	}
	e.outcome(nil, func() Check {
		c := Check{Path: "spec.allow.maxDuration", Message: fmt.Sprintf("at most %s", longest)}
		if asked != 0 {
			c.Asked = []string{asked.String()}
		}
		if asked == 0 || asked > longest {
			c.Used = []string{"spec.allow.maxDuration"}
			c.Message = fmt.Sprintf("shortened to %s", longest)
		}
		return c
	})
}

func each[T, U any](list []T, f func(T) U) []U {
	all := make([]U, 0, len(list))
	for _, v := range list {
		all = append(all, f(v))
	}
	return all
}
