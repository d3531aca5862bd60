// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"math"

	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/library"
)

// maxWeight is the weight that no value of an expression may exceed: bytes of text and elements of lists and maps, with all
// that they hold. It is more than the annotations of a pod can have.
const maxWeight = 512 << 10

// maxElements of one list or map. Accounting for a loop takes time that grows with the square of its length.
const maxElements = 4096

// estimator charges for calls as Kubernetes does and, where Kubernetes looks only at the outermost list or text, for the
// weight of all that is in it. Otherwise lists that hold the same list twice, which hold the same list twice, would cost
// nothing until something compares or prints them.
type estimator struct {
	library.CostEstimator
	// patterns are the regular expressions of the program and how many steps each has.
	patterns map[string]uint64
}

// construction is the name under which chargeConstruction presents the making of a list, map or object.
const construction = "@construct"

// CallCost implements interpreter.ActualCostEstimator.
func (e *estimator) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	var cost uint64
	switch {
	case function == construction:
		cost = common.ListCreateBaseCost + charge(args...)
	case overload == overloads.InMap:
		cost = texts(args)
	case function == operators.Add || function == "cel.@mapInsert":
		cost = charge(added(args)...)
	case function == operators.In || function == operators.Equals || function == operators.NotEquals || function == "format":
		cost = charge(append(args, result)...)
	case function == "contains" || function == "startsWith" || function == "endsWith":
		return nil // CEL's own cost, which knows what is short
	default:
		cost = e.patternCost(function, args)
		if known := e.CostEstimator.CallCost(function, overload, args, result); known != nil {
			cost = max(cost, *known) + charge(result)
		} else {
			cost = max(cost, texts(args)) // size and charAt go through a text too
		}
	}
	return &cost
}

// added are the arguments of an addition without the list that a macro is just collecting, whose elements were charged for.
func added(args []ref.Val) []ref.Val {
	switch args[0].(type) {
	case traits.MutableLister, traits.MutableMapper:
		return args[1:]
	}
	return args
}

// patternCost is what a regular expression costs by its steps: a pattern such as a{500} has many more than it has characters.
func (e *estimator) patternCost(function string, args []ref.Val) uint64 {
	if !takesPattern(function) || len(args) < 2 {
		return 0
	}
	text, _ := args[0].(types.String)
	pattern, _ := args[1].(types.String)
	traversal := math.Ceil(float64(1+len(text)) * common.StringTraversalCostFactor)
	return uint64(math.Ceil(traversal * float64(e.patterns[string(pattern)]) * common.RegexStringLengthCostFactor))
}

// charge is what it costs to go through values; more than any budget if one is over maxWeight.
func charge(values ...ref.Val) uint64 {
	var total uint64
	for _, v := range values {
		w := weigh(v, maxWeight+1)
		if w > maxWeight {
			return celconfig.PerCallLimit + 1
		}
		total += uint64(w)
	}
	return max(1, uint64(math.Ceil(float64(total)*common.StringTraversalCostFactor)))
}

// texts is what it costs to go through those of the arguments that are text.
func texts(args []ref.Val) uint64 {
	var total uint64
	for _, v := range args {
		switch v.(type) {
		case types.String, types.Bytes:
			total += charge(v)
		}
	}
	return max(1, total)
}

// weigh counts a value's bytes of text and elements, and stops counting at the limit. What has more than maxElements weighs
// as much as the limit.
func weigh(v ref.Val, limit int) int {
	switch v := v.(type) {
	case types.String:
		return min(limit, 1+len(v))
	case types.Bytes:
		return min(limit, 1+len(v))
	case *types.Optional:
		if v.HasValue() {
			return weigh(v.GetValue(), limit)
		}
	case traits.Mapper:
		if size(v) > maxElements {
			return limit
		}
		total := 1
		for it := v.Iterator(); total < limit && it.HasNext() == types.True; {
			key := it.Next()
			total += weigh(key, limit-total)
			total += weigh(v.Get(key), limit-total)
		}
		return total
	case traits.Lister:
		if size(v) > maxElements {
			return limit
		}
		total := 1
		for it := v.Iterator(); total < limit && it.HasNext() == types.True; {
			total += weigh(it.Next(), limit-total)
		}
		return total
	}
	return min(limit, 1)
}

// chargeConstruction shows the making of lists, maps and objects to the estimator as calls. Those of constants are left to be
// folded.
func chargeConstruction(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	constructor, ok := step.(interpreter.InterpretableConstructor)
	if !ok {
		return step, nil
	}
	for _, value := range constructor.InitVals() {
		if _, constant := value.(interpreter.InterpretableConst); !constant {
			return &constructed{step, constructor.InitVals()}, nil
		}
	}
	return step, nil
}

type constructed struct {
	interpreter.InterpretableV2
	args []interpreter.InterpretableV2
}

func (*constructed) Function() string                      { return construction }
func (*constructed) OverloadID() string                    { return "" }
func (c *constructed) Args() []interpreter.InterpretableV2 { return c.args }
