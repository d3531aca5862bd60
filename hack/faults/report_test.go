// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// phase is what became of the requests that were sent in a span of time.
type phase struct {
	name     string
	requests []sent
}

func (p phase) issued() (n int) {
	for _, s := range p.requests {
		if s.leaf != nil {
			n++
		}
	}
	return n
}

func (p phase) waiting() (n int) {
	for _, s := range p.requests {
		if s.done.IsZero() {
			n++
		}
	}
	return n
}

// refusals are the reasons why requests were given up, and how often.
func (p phase) refusals() map[string]int {
	found := map[string]int{}
	for _, s := range p.requests {
		if s.refused != "" {
			found[s.refused]++
		}
	}
	return found
}

// quantile returns how long the requests took that ended, by rank.
func (p phase) quantile(q float64) time.Duration {
	var took []time.Duration
	for _, s := range p.requests {
		if !s.done.IsZero() {
			took = append(took, s.done.Sub(s.at))
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(int(q*float64(len(took))), len(took)-1)]
}

// recovered returns how long after a moment the last request was sent that was not answered promptly.
func (p phase) recovered(moment time.Time, prompt time.Duration) (last time.Duration) {
	for _, s := range p.requests {
		if s.done.IsZero() || s.done.Sub(s.at) > prompt {
			last = max(last, s.at.Sub(moment))
		}
	}
	return last
}

func (p phase) String() string {
	text := fmt.Sprintf("%-8s sent %5d  issued %5d  waiting %4d  refused %4d  p50 %8s  p99 %8s", p.name, len(p.requests), p.issued(), p.waiting(),
		len(p.requests)-p.issued()-p.waiting(), p.quantile(0.5).Round(time.Millisecond), p.quantile(0.99).Round(time.Millisecond))
	var reasons strings.Builder
	for _, reason := range slices.Sorted(maps.Keys(p.refusals())) {
		fmt.Fprintf(&reasons, "\n    %d times %s", p.refusals()[reason], reason)
	}
	return text + reasons.String()
}

// issuedBy counts the certificates of issuers whose common name begins with a prefix.
func issuedBy(requests []sent, prefix string) (n int) {
	for _, s := range requests {
		if s.leaf != nil && strings.HasPrefix(s.leaf.Issuer.CommonName, prefix) {
			n++
		}
	}
	return n
}
