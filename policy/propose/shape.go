// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package propose

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The lists of spec.allow in which values are counted, in the order in which they are written.
const (
	dnsNames       = "dnsNames"
	uris           = "uris"
	ipAddresses    = "ipAddresses"
	emailAddresses = "emailAddresses"
	commonNames    = "commonNames"
	usages         = "usages"
)

// shape is what somebody asked for, with the number of requests that each value rests on.
type shape struct {
	values    map[string]map[string]int // by list, such as dnsNames or subject.organizations
	keys      map[string]*keys          // by algorithm
	wildcards int
	isCA      int
	requests  int
	// bound is how many came with a token that is bound to a pod, and guessed of how many the Services are a guess.
	bound, guessed int
	// longest is the longest lifetime that was granted, of those that are known.
	longest time.Duration
}

type keys struct{ minSize, requests int }

func newShape() *shape {
	return &shape{values: map[string]map[string]int{}, keys: map[string]*keys{}}
}

// add adds one request.
func (s *shape) add(seen Seen) {
	req := &seen.Request
	for list, values := range explain(seen) {
		for value := range values {
			s.count(list, value, 1)
		}
	}
	for _, usage := range req.Usages {
		s.count(usages, string(usage), 1)
	}
	s.key(req.Key.Algorithm, keys{req.Key.Size, 1})
	s.requests++
	if slices.ContainsFunc(req.DNSNames, func(name string) bool { return strings.HasPrefix(name, "*.") }) {
		s.wildcards++
	}
	if req.IsCA {
		s.isCA++
	}
	if _, ok := req.Requester.Pod(); ok {
		s.bound++
	}
	if seen.Guessed {
		s.guessed++
	}
	s.longest = max(s.longest, seen.Lifetime)
}

// join adds what another shape holds.
func (s *shape) join(other *shape) {
	for list, values := range other.values {
		for value, n := range values {
			s.count(list, value, n)
		}
	}
	for algorithm, k := range other.keys {
		s.key(algorithm, *k)
	}
	s.wildcards += other.wildcards
	s.isCA += other.isCA
	s.requests += other.requests
	s.bound += other.bound
	s.guessed += other.guessed
	s.longest = max(s.longest, other.longest)
}

func (s *shape) count(list, value string, n int) {
	if s.values[list] == nil {
		s.values[list] = map[string]int{}
	}
	s.values[list][value] += n
}

func (s *shape) key(algorithm string, k keys) {
	known := s.keys[algorithm]
	if known == nil {
		s.keys[algorithm] = &k
		return
	}
	known.minSize = min(known.minSize, k.minSize)
	known.requests += k.requests
}

// fromPods reports whether every request came from a pod.
func (s *shape) fromPods() bool { return s.bound == s.requests }

// id is the same for shapes that are alike, whatever the numbers.
func (s *shape) id(user bool) string {
	var b strings.Builder
	for _, list := range slices.Sorted(maps.Keys(s.values)) {
		fmt.Fprintf(&b, "%s%q ", list, slices.Sorted(maps.Keys(s.values[list])))
	}
	for _, algorithm := range slices.Sorted(maps.Keys(s.keys)) {
		fmt.Fprintf(&b, "%s%d ", algorithm, s.keys[algorithm].minSize)
	}
	fmt.Fprint(&b, s.wildcards > 0, s.isCA > 0, s.fromPods(), user)
	return b.String()
}
