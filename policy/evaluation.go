// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strconv"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/expression"
	"github.com/certwright/certwright/policy/pattern"
)

// inquiry is a request and the facts, with what follows from them for every policy, worked out when the first one needs it.
type inquiry struct {
	req   csr.Request
	facts Facts

	// Of the requester's service account; isServiceAccount is false if it is none.
	namespace, serviceAccount string
	isServiceAccount          bool

	sets       []pattern.Values
	expansions map[expansionKey]expansion
	activation *expression.Activation
}

// expansionKey tells apart the patterns of one text in different fields, as a placeholder's values depend on the field.
type expansionKey struct{ field, pattern string }

// expansion is what a pattern comes to for this requester: as it is, and for people.
type expansion struct{ texts, quoted []string }

func newInquiry(req csr.Request, facts Facts) inquiry {
	q := inquiry{req: req, facts: facts}
	q.namespace, q.serviceAccount, q.isServiceAccount = req.Requester.ServiceAccount()
	return q
}

// values are those of placeholders.
func (q *inquiry) values() []pattern.Values {
	if q.sets == nil {
		q.sets = q.facts.Values(q.serviceAccount)
	}
	return q.sets
}

// expand fills in the placeholders of a pattern in every way, once for all policies that have it.
func (q *inquiry) expand(field string, t pattern.Template) expansion {
	key := expansionKey{field, t.String()}
	x, ok := q.expansions[key]
	if !ok {
		if q.expansions == nil {
			q.expansions = map[expansionKey]expansion{}
		}
		x.texts = t.Expand(q.values())
		x.quoted = each(x.texts, strconv.Quote)
		q.expansions[key] = x
	}
	return x
}

// evaluation is one policy at work on an inquiry. Deciding and explaining are the same, but for the notes.
type evaluation struct {
	*inquiry
	policy     *Policy
	budget     *expression.Budget
	violations []Violation
	notes      *Evaluation // nil unless somebody wants to know each check
}

// evaluate reports whether the policy speaks of the request, and what of it the policy does not allow.
func (p *Policy) evaluate(q *inquiry, notes *Evaluation) (selected bool, violations []Violation) {
	e := evaluation{inquiry: q, policy: p, notes: notes}
	if !e.selects() {
		return false, nil
	}
	e.rules()
	return true, e.violations
}

// spend returns what is left of what the policy's expressions may cost together, so that none costs another policy anything.
func (e *evaluation) spend() *expression.Budget {
	if e.budget == nil {
		e.budget = expression.NewBudget()
	}
	return e.budget
}

// selection notes a check of the selection, and returns whether it passed.
func (e *evaluation) selection(passed bool, describe func() Check) bool {
	if e.notes != nil {
		c := describe()
		c.Passed = passed
		e.notes.Selection = append(e.notes.Selection, c)
	}
	return passed
}

// outcome adds what became of a rule: to the violations if there is one, and to the notes.
func (e *evaluation) outcome(v *Violation, describe func() Check) {
	if v != nil {
		e.violations = append(e.violations, *v)
	}
	if e.notes != nil {
		c := describe()
		c.Passed = v == nil
		if v != nil {
			c.Message = v.reason()
		}
		e.notes.Rules = append(e.notes.Rules, c)
	}
}
