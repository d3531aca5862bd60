// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"errors"
	"regexp"
	"strconv"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
)

// Report is what became of all cases.
type Report struct {
	Passed  int      `json:"passed"`
	Failed  int      `json:"failed"`
	Results []Result `json:"results"`
	// Coverage says which rules the cases touched.
	Coverage Coverage `json:"coverage"`
}

// Result is what became of one case.
type Result struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	// Differences between what was expected and what was decided. Empty if the case passed.
	Differences []Difference `json:"differences,omitempty"`
	// Verdict and Message are those of the decision.
	Verdict string `json:"verdict"`
	Message string `json:"message"`
}

// Difference is one thing that a case expects otherwise.
type Difference struct {
	// What was looked at, such as "verdict".
	What string `json:"what"`
	// Want is what was expected; empty if nothing was.
	Want string `json:"want,omitempty"`
	// Got is what was decided; empty if it was nothing.
	Got string `json:"got,omitempty"`
}

// outcome is a decision in the words of test cases.
type outcome struct {
	policy.Decision
	message    string
	violations []found
	audits     []audited
}

// found is a violation that a policy found.
type found struct {
	policy  string
	field   string
	values  []string
	message string
}

type audited struct {
	policy     string
	violations []found
}

// Run runs the cases whose names the filter matches, or all if it is nil.
func Run(suites []Suite, filter *regexp.Regexp) (*Report, error) {
	report := &Report{Results: []Result{}}
	covered := newTally()
	for _, suite := range suites {
		covered.expect(suite.Policies)
		for i := range suite.cases {
			c := &suite.cases[i]
			if filter != nil && !filter.MatchString(c.Name) {
				continue
			}
			o, err := c.decide(suite.Policies, covered)
			if err != nil {
				return nil, err
			}
			differences := c.Expect.differences(o)
			result := Result{
				File: suite.File, Line: c.line, Name: c.Name, Passed: len(differences) == 0,
				Differences: differences, Verdict: o.Verdict.String(), Message: o.message,
			}
			if result.Passed {
				report.Passed++
			} else {
				report.Failed++
			}
			report.Results = append(report.Results, result)
		}
	}
	report.Coverage = covered.coverage()
	return report, nil
}

// decide asks the policies, as the approver would.
func (c *testCase) decide(policies []casefile.Policy, covered *tally) (outcome, error) {
	req, err := csr.Parse(c.object)
	var refusal *csr.Refusal
	if errors.As(err, &refusal) {
		return outcome{
			Decision:   policy.Decision{Verdict: policy.Deny},
			message:    "The request cannot be read and is denied whatever policies say: " + refusal.Error() + ".",
			violations: []found{{field: refusal.Field, message: refusal.Error()}},
		}, nil
	}
	if err != nil {
		return outcome{}, err
	}
	facts, err := c.known()
	if err != nil {
		return outcome{}, err
	}
	compiled := casefile.Compiled(policies)
	covered.count(policies, policy.Explain(req, facts, compiled))
	d := policy.Decide(req, facts, compiled)
	o := outcome{Decision: d, message: d.Message()}
	for _, denial := range d.Denials {
		o.violations = append(o.violations, foundBy(denial.Policy, denial.Violations)...)
	}
	for _, audit := range d.Audits {
		o.audits = append(o.audits, audited{audit.Policy, foundBy(audit.Policy, audit.Violations)})
	}
	return o, nil
}

func foundBy(name string, violations []policy.Violation) []found {
	var all []found
	for _, v := range violations {
		f := found{policy: name, field: v.Field, message: v.String()}
		for _, value := range v.Values {
			if plain, err := strconv.Unquote(value); err == nil {
				value = plain
			}
			f.values = append(f.values, value)
		}
		all = append(all, f)
	}
	return all
}
