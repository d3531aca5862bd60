// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/server"
)

// http01Patience is how long the route of an HTTP-01 challenge may take until it is told that it takes long.
const http01Patience = 5 * time.Minute

// solver is one of the backend's, with its configuration.
type solver struct {
	challenge.Solver
	config v1alpha1.ACMESolver
}

// kind is the type of the challenges that it answers.
func (s solver) kind() string {
	if s.config.DNS01 != nil {
		return challenge.DNS01
	}
	return challenge.HTTP01
}

// patience is how long an answer may take to be seen.
func (s solver) patience() time.Duration {
	if s.config.DNS01 != nil && s.config.DNS01.PropagationTimeout.Duration > 0 {
		return s.config.DNS01.PropagationTimeout.Duration
	}
	return http01Patience
}

// can reports whether the challenges it answers can prove such a name: a wildcard only DNS-01 (RFC 8555, section 8.3), an
// address only HTTP-01 (RFC 8738, section 7).
func (s solver) can(id server.Identifier) bool {
	switch {
	case id.Type == "ip":
		return s.kind() == challenge.HTTP01
	case strings.HasPrefix(id.Value, "*."):
		return s.kind() == challenge.DNS01
	}
	return true
}

// match returns how specific the solver's domains are for a name: the length of the longest that the name is in, or -1. A
// solver without domains is for all.
func (s solver) match(id server.Identifier) int {
	if len(s.config.Domains) == 0 {
		return 0
	}
	name, best := strings.TrimPrefix(id.Value, "*."), -1
	for _, domain := range s.config.Domains {
		domain = strings.ToLower(domain)
		if name == domain || strings.HasSuffix(name, "."+domain) {
			best = max(best, len(domain))
		}
	}
	return best
}

// solvers are those of a backend, in the order of its configuration.
type solvers []solver

func newSolvers(configs []v1alpha1.ACMESolver, newSolver challenge.NewSolver) (solvers, error) {
	if len(configs) == 0 {
		return nil, errors.New("acme.solvers: is empty: at least one is needed to prove names")
	}
	var all solvers
	for i, config := range configs {
		field := fmt.Sprintf("acme.solvers[%d]", i)
		if (config.HTTP01 == nil) == (config.DNS01 == nil) {
			return nil, fmt.Errorf("%s: exactly one of http01 and dns01 must be set", field)
		}
		for j, domain := range config.Domains {
			if err := csr.CheckDNSName(strings.ToLower(domain)); err != nil || strings.HasPrefix(domain, "*.") {
				return nil, fmt.Errorf("%s.domains[%d]: %q: must be a DNS name without a wildcard; names below it are meant, too", field, j, domain)
			}
		}
		made, err := newSolver(config)
		if err != nil {
			return nil, fmt.Errorf("%s.%w", field, err)
		}
		all = append(all, solver{Solver: made, config: config})
	}
	return all, nil
}

// pick returns the solver for a name among those whose kind the server offers: the one with the most specific domain, of these
// the first.
func (all solvers) pick(id server.Identifier, offered ...string) (solver, bool) {
	best, at := -1, -1
	for i, s := range all {
		if !s.can(id) || len(offered) > 0 && !slices.Contains(offered, s.kind()) {
			continue
		}
		if m := s.match(id); m > best {
			best, at = m, i
		}
	}
	if at < 0 {
		return solver{}, false
	}
	return all[at], true
}

// cover refuses names that no solver can prove, before anything is ordered.
func (all solvers) cover(ids []server.Identifier) error {
	for _, id := range ids {
		if _, ok := all.pick(id); ok {
			continue
		}
		field := "dnsNames"
		if id.Type == "ip" {
			field = "ipAddresses"
		}
		return &signer.PermanentError{Err: fmt.Errorf("%s: %s: no solver of this backend proves that name: acme.solvers would need one for it%s", field, id.Value, needs(id))}
	}
	return nil
}

func needs(id server.Identifier) string {
	switch {
	case id.Type == "ip":
		return ", with http01, as only that can prove an IP address"
	case strings.HasPrefix(id.Value, "*."):
		return ", with dns01, as only that can prove a wildcard"
	}
	return ""
}
