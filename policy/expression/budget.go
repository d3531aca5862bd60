// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"

	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// Budget is the work that all expressions of one policy may do in one decision, in units of CEL's cost (about 100 ns each). It
// is of one goroutine.
type Budget struct{ left uint64 }

// NewBudget returns the budget that Kubernetes gives to the expressions of one ValidatingAdmissionPolicyBinding: ten times
// what a single expression may cost.
func NewBudget() *Budget { return &Budget{left: celconfig.RuntimeCELCostBudget} }

func (b *Budget) spend(cost uint64) { b.left -= min(cost, b.left) }

// BudgetError says that an expression was stopped because it, or its policy, does too much. Reason says which.
type BudgetError struct{ Reason string }

func (e *BudgetError) Error() string {
	return e.Reason + "; make the expression simpler, or its lists and texts shorter"
}

func budgetSpent() error {
	return &BudgetError{fmt.Sprintf("the expressions of the policy cost more than %d together", celconfig.RuntimeCELCostBudget)}
}

// EvalError says that an expression yielded no value that can be used, such as for a label that is not there.
type EvalError struct{ Err error }

func (e *EvalError) Error() string { return "evaluating: " + printable(e.Err.Error()) }

// Unwrap returns the reason.
func (e *EvalError) Unwrap() error { return e.Err }
