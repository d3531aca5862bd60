// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package propose turns requests that were seen into policies that permit them and little else: a starting point for people
// who write policies. A value that facts about its requester explain becomes a placeholder, every other one stays as it is,
// and nobody is selected who did not ask. What is proposed is held against all that was seen by the code that decides.
package propose

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
)

// Seen is a request that was made, and what is known about its requester.
type Seen struct {
	Request csr.Request
	Facts   policy.Facts
	// Lifetime that was granted; 0 if it is not known.
	Lifetime time.Duration
	// Guessed is true if the requester's pod is gone, so that its Services are a guess.
	Guessed bool
}

// Proposal is what comes out.
type Proposal struct {
	// YAML holds CertificatePolicies, with comments that say how many requests each line rests on.
	YAML []byte
	// Policies is how many there are.
	Policies int
	// Refused are the requests that these policies do not permit.
	Refused []Refused
}

// Refused is a request that the proposal does not permit, and why.
type Refused struct{ Name, Reason string }

// New proposes policies.
func New(ctx context.Context, seen []Seen) (*Proposal, error) {
	groups := merge(seen)
	text, err := write(groups)
	if err != nil {
		return nil, err
	}
	documents, err := casefile.Read("the proposal", text)
	if err != nil {
		return nil, err
	}
	policies, err := casefile.Policies(ctx, documents)
	if err != nil {
		return nil, err
	}
	p := &Proposal{YAML: text, Policies: len(policies)}
	compiled := casefile.Compiled(policies)
	for _, s := range seen {
		if d := policy.Decide(s.Request, s.Facts, compiled); d.Verdict != policy.Permit {
			p.Refused = append(p.Refused, Refused{Name: s.Request.Name, Reason: d.Message()})
		}
	}
	return p, nil
}

// names gives each group the name of its policy: of the signerName's path and of the first who asked.
func names(groups []group) []string {
	taken := map[string]bool{}
	all := make([]string, 0, len(groups))
	for _, g := range groups {
		_, path, _ := strings.Cut(g.signerName, "/")
		parts := []string{path}
		for _, list := range [][]string{g.namespaces, g.serviceAccounts, g.users} {
			if len(list) > 0 {
				parts = append(parts, list[0])
			}
		}
		base := plain(strings.Join(parts, "-"))
		name := base
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[name] = true
		all = append(all, name)
	}
	return all
}

// plain makes the name of an object of a text.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(text))
	return strings.Trim(text[:min(len(text), 200)], "-")
}
