// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
)

// Coverage says which rules of the policies the cases touched.
type Coverage struct {
	// Rules is how many single rules the policies have, such as one pattern or one validation.
	Rules int `json:"rules"`
	// Used is how many of them matched something in a case; of an expression, how many were evaluated.
	Used int `json:"used"`
	// Unused are the others.
	Unused []Rule `json:"unused,omitempty"`
	// NeverRefused are the fields and expressions that stood in the way of no case.
	NeverRefused []Rule `json:"neverRefused,omitempty"`
}

// Rule is a rule of a policy, and where it stands.
type Rule struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Policy string `json:"policy"`
	Path   string `json:"path"`
}

// Percent returns the share of rules that were used, from 0 to 100.
func (c Coverage) Percent() float64 {
	if c.Rules == 0 {
		return 100
	}
	return 100 * float64(c.Used) / float64(c.Rules)
}

// tally counts what cases touched. A policy that several tests name is counted once.
type tally struct {
	policies []casefile.Policy
	touched  map[identity]*touched
}

type identity struct{ file, policy string }

type touched struct{ used, refused map[string]bool }

func newTally() *tally { return &tally{touched: map[identity]*touched{}} }

func identify(p casefile.Policy) identity {
	return identity{filepath.Clean(p.Document.File), p.Object.Name}
}

// expect makes the rules of these policies count.
func (t *tally) expect(policies []casefile.Policy) {
	for _, p := range policies {
		if id := identify(p); t.touched[id] == nil {
			t.touched[id] = &touched{map[string]bool{}, map[string]bool{}}
			t.policies = append(t.policies, p)
		}
	}
}

// count adds what one case touched.
func (t *tally) count(policies []casefile.Policy, evaluations []policy.Evaluation) {
	for i, e := range evaluations {
		p := t.touched[identify(policies[i])]
		for _, c := range slices.Concat(e.Selection, e.Rules) {
			for _, path := range c.Used {
				p.used[path] = true
			}
			if !c.Passed {
				p.refused[c.Path] = true
			}
		}
	}
}

func (t *tally) coverage() Coverage {
	var c Coverage
	for _, p := range t.policies {
		at := t.touched[identify(p)]
		rule := func(path string) Rule {
			return Rule{File: p.Document.File, Line: p.Document.Line(path), Policy: p.Object.Name, Path: path}
		}
		rules := written(p)
		for _, path := range rules {
			c.Rules++
			if at.used[path] {
				c.Used++
			} else {
				c.Unused = append(c.Unused, rule(path))
			}
		}
		for _, path := range refusing(rules) {
			if !at.refused[path] {
				c.NeverRefused = append(c.NeverRefused, rule(path))
			}
		}
	}
	return c
}

// written returns the rules that stand in the policy; those that are there by default need no test.
func written(p casefile.Policy) []string {
	var asWritten v1alpha1.CertificatePolicy
	rules := p.Compiled.Rules()
	if err := p.Document.Decode(&asWritten); err == nil && asWritten.Spec.Allow.Keys == nil {
		rules = slices.DeleteFunc(rules, func(path string) bool { return strings.HasPrefix(path, "spec.allow.keys[") })
	}
	return rules
}

// refusing turns paths of single rules into those of what can stand in the way of a request: a list as a whole, and each
// expression by itself.
func refusing(rules []string) []string {
	var paths []string
	for _, path := range rules {
		list, _, indexed := strings.Cut(path, "[")
		switch {
		case strings.HasPrefix(path, "spec.validations["), strings.HasPrefix(path, "spec.matchConditions["):
		case indexed:
			path = list
		case strings.HasPrefix(path, "spec.allow."):
			continue // a flag, or a bound that shortens
		}
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}
