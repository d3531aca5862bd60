// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// Activation is Variables, ready to be read by any number of programs, at once too.
type Activation struct{ variables map[string]any }

// NewActivation converts variables. They must not be changed afterwards.
func NewActivation(v Variables) *Activation {
	values := reflect.ValueOf(v)
	variables := make(map[string]any, values.NumField())
	for i := range values.NumField() {
		variables[values.Type().Field(i).Tag.Get("cel")] = valueOf(values.Field(i))
	}
	return &Activation{variables}
}

// Bool evaluates a program made by CompileBool. An error is a BudgetError or an EvalError, and the value is then false.
func (p *Program) Bool(a *Activation, b *Budget) (bool, error) {
	value, err := p.eval(a, b)
	if err != nil {
		return false, err
	}
	yes, ok := value.Value().(bool)
	if !ok {
		return false, &EvalError{fmt.Errorf("yields %s instead of bool", value.Type().TypeName())}
	}
	return yes, nil
}

// String evaluates a program made by CompileString. What it returns is one line of at most 5 KiB without space around it, as
// Kubernetes wants messages; anything else is an EvalError. Other errors are those of Bool.
func (p *Program) String(a *Activation, b *Budget) (string, error) {
	value, err := p.eval(a, b)
	if err != nil {
		return "", err
	}
	text, ok := value.Value().(string)
	text = strings.TrimSpace(text)
	switch {
	case !ok:
		return "", &EvalError{fmt.Errorf("yields %s instead of string", value.Type().TypeName())}
	case text == "":
		return "", &EvalError{errors.New("the text is empty")}
	case len(text) > celconfig.MaxEvaluatedMessageExpressionSizeBytes:
		return "", &EvalError{fmt.Errorf("the text has %d bytes, at most %d are allowed", len(text), celconfig.MaxEvaluatedMessageExpressionSizeBytes)}
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", &EvalError{errors.New("the text has line breaks or other characters that cannot be printed")}
	}
	return text, nil
}

func (p *Program) eval(a *Activation, b *Budget) (ref.Val, error) {
	if b.left == 0 {
		return nil, budgetSpent()
	}
	// Eval makes errors of panics in functions, ours too.
	value, details, err := p.program.Eval(a.variables)
	var cost uint64 = celconfig.PerCallLimit // where nobody counted
	if counted := details.ActualCost(); counted != nil {
		cost = *counted
	}
	overspent := cost > b.left
	b.spend(cost)
	cancelled := interpreter.EvalCancelledError{}
	switch {
	case errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded:
		return nil, &BudgetError{cancelled.Message}
	case overspent:
		return nil, budgetSpent()
	case err != nil:
		return nil, &EvalError{err}
	}
	return value, nil
}
