// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/policy/expression"
)

// matchCondition is the compiled form of v1alpha1.MatchCondition.
type matchCondition struct {
	name    string
	text    string
	program *expression.Program
}

// validation is the compiled form of v1alpha1.Validation.
type validation struct {
	text              string
	program           *expression.Program
	message           string
	messageExpression *expression.Program // nil if there is none
}

// maxExpressions is how many match conditions, and how many validations, a policy may have, as the schema says. It is asked
// before any is compiled, for a policy that comes around the schema costs time, too.
const maxExpressions = 64

// tooMany reports whether a list of expressions is too long to be compiled.
func (c *compiler) tooMany(path *field.Path, n int) bool {
	if n > maxExpressions {
		c.errs = append(c.errs, field.TooMany(path, n, maxExpressions))
		return true
	}
	return false
}

func (c *compiler) matchConditions(path *field.Path, conditions []v1alpha1.MatchCondition) []matchCondition {
	if c.tooMany(path, len(conditions)) {
		return nil
	}
	var compiled []matchCondition
	for i, condition := range conditions {
		path := path.Index(i)
		named := func(other v1alpha1.MatchCondition) bool { return other.Name == condition.Name }
		switch {
		case condition.Name == "":
			c.errs = append(c.errs, field.Required(path.Child("name"), "messages call the condition by its name"))
		case slices.ContainsFunc(conditions[:i], named):
			c.errs = append(c.errs, field.Duplicate(path.Child("name"), condition.Name))
		}
		program := c.program(path.Child("expression"), condition.Expression, expression.CompileBool)
		compiled = append(compiled, matchCondition{condition.Name, plain(condition.Expression), program})
	}
	return compiled
}

func (c *compiler) validations(path *field.Path, validations []v1alpha1.Validation) []validation {
	if c.tooMany(path, len(validations)) {
		return nil
	}
	var compiled []validation
	for i, v := range validations {
		path := path.Index(i)
		one := validation{text: plain(v.Expression), message: plain(v.Message)}
		one.program = c.program(path.Child("expression"), v.Expression, expression.CompileBool)
		if v.MessageExpression != "" {
			one.messageExpression = c.program(path.Child("messageExpression"), v.MessageExpression, expression.CompileString)
		}
		compiled = append(compiled, one)
	}
	return compiled
}

func (c *compiler) program(path *field.Path, text string, compile func(string) (*expression.Program, error)) *expression.Program {
	program, err := compile(text)
	if err != nil {
		c.invalid(path, text, err)
	}
	return program
}

// matchConditions reports whether no match condition is false. Where none is, one that cannot be evaluated refuses the request.
func (e *evaluation) matchConditions() bool {
	selected := true
	var failed []Violation
	for i, condition := range e.policy.matchConditions {
		holds, err := condition.program.Bool(e.variables(), e.spend())
		if err != nil {
			reason := fmt.Sprintf("%q %s", condition.name, unevaluated(err))
			failed = append(failed, Violation{Field: index("matchConditions", i), Allowed: reason})
		}
		selected = e.selection(holds || err != nil, func() Check {
			c := Check{Path: index("spec.matchConditions", i)}
			if err != nil {
				c.Message = fmt.Sprintf("%q %s; selected, to be refused for that", condition.name, unevaluated(err))
			} else {
				c.Message, c.Used = fmt.Sprintf("%q is %t: %s", condition.name, holds, condition.text), []string{c.Path}
			}
			return c
		}) && selected
	}
	for i := range failed {
		if selected {
			e.outcome(&failed[i], func() Check { return Check{Path: "spec." + failed[i].Field} })
		}
	}
	return selected
}

func (e *evaluation) validations() {
	for i := range e.policy.validations {
		validation := &e.policy.validations[i]
		var v *Violation
		holds, err := validation.program.Bool(e.variables(), e.spend())
		switch {
		case err != nil:
			v = &Violation{Field: index("validations", i), Allowed: unevaluated(err)}
		case !holds:
			v = &Violation{Field: index("validations", i), Allowed: e.message(validation)}
		}
		e.outcome(v, func() Check {
			c := Check{Path: index("spec.validations", i), Message: "is true: " + validation.text}
			if err == nil {
				c.Used = []string{c.Path}
			}
			return c
		})
	}
}

// message says what a validation that is false wants.
func (e *evaluation) message(v *validation) string {
	if v.messageExpression != nil {
		if text, err := v.messageExpression.String(e.variables(), e.spend()); err == nil {
			return text
		}
	}
	if v.message != "" {
		return v.message
	}
	return "must be true: " + v.text
}

func unevaluated(err error) string {
	if eval := (*expression.EvalError)(nil); errors.As(err, &eval) {
		err = eval.Err
	}
	return "cannot be evaluated: " + plain(err.Error())
}

// plain makes one line of a text: for errors may quote the request, and expressions have many lines.
func plain(text string) string {
	return excerpt.Of(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }), " "), maxPlain)
}

// maxPlain leaves room for other violations in a message, in bytes.
const maxPlain = 1 << 10
