// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// CEL charges for a call after it was made. That is too late for functions whose work or result is a product of their
// arguments, or is named by a number: these are asked first, by the id of the overload, and may do as much as guards allow.
const (
	maxResult   = maxWeight // bytes or elements
	maxCompared = 4_000_000 // pairs, about as long as a whole expression may take
)

// guard says what a call is going to do, and how much of it is allowed.
type guard func(args []ref.Val) (work, allowed uint64)

var guards = map[string]map[string]guard{
	"replace": {"string_replace_string_string": replaced, "string_replace_string_string_int": replaced},
	"join":    {"list_join": joined, "list_join_string": joined},
	"format":  {"string_format": formatted},
	"indexOf": {"string_index_of_string": searched, "string_index_of_string_int": searched},
	"lastIndexOf": {
		"string_last_index_of_string": searched, "string_last_index_of_string_int": searched,
	},
	"lists.range":     {"lists_range": ranged},
	"flatten":         {"list_flatten": flattened, "list_flatten_int": flattened},
	"distinct":        {"list_distinct": pairs},
	"sets.contains":   {"list_sets_contains_list": pairs},
	"sets.equivalent": {"list_sets_equivalent_list": pairs},
	"sets.intersects": {"list_sets_intersects_list": pairs},
	"quantity":        {"string_to_quantity": exponent},
	"isQuantity":      {"is_quantity_string": exponent},
	"semver":          {"string_to_semver": parsed, "string_bool_to_semver": parsed},
	"isSemver":        {"is_semver_string": parsed, "is_semver_string_bool": parsed},
	"url":             {"string_to_url": parsed},
	"isURL":           {"is_url_string": parsed},
}

// guardedFunctions declares the guarded overloads of an environment anew.
func guardedFunctions(env *cel.Env) ([]cel.EnvOption, error) {
	var opts []cel.EnvOption
	for name, overloads := range guards {
		function, ok := env.Functions()[name]
		if !ok {
			return nil, fmt.Errorf("guarding %s: there is no such function", name)
		}
		bindings, err := function.Bindings()
		if err != nil {
			return nil, fmt.Errorf("guarding %s: %w", name, err)
		}
		original := map[string]*functions.Overload{}
		for _, b := range bindings {
			original[b.Operator] = b
		}
		guarded := 0
		for _, o := range function.OverloadDecls() {
			check, ok := overloads[o.ID()]
			if !ok {
				continue
			}
			guarded++
			declare := cel.Overload
			if o.IsMemberFunction() {
				declare = cel.MemberOverload
			}
			opts = append(opts, cel.Function(name, declare(o.ID(), o.ArgTypes(), o.ResultType(), guardedBinding(name, original[o.ID()], check))))
		}
		if guarded != len(overloads) {
			return nil, fmt.Errorf("guarding %s: found %d of %d overloads", name, guarded, len(overloads))
		}
	}
	return opts, nil
}

func guardedBinding(name string, original *functions.Overload, check guard) cel.OverloadOpt {
	ask := func(args ...ref.Val) {
		if work, allowed := check(args); work > allowed {
			panic(interpreter.EvalCancelledError{
				Cause:   interpreter.CostLimitExceeded,
				Message: fmt.Sprintf("%s would take %d steps here, at most %d are allowed", name, work, allowed),
			})
		}
	}
	switch {
	case original.Unary != nil:
		return cel.UnaryBinding(func(v ref.Val) ref.Val { ask(v); return original.Unary(v) })
	case original.Binary != nil:
		return cel.BinaryBinding(func(a, b ref.Val) ref.Val { ask(a, b); return original.Binary(a, b) })
	default:
		return cel.FunctionBinding(func(args ...ref.Val) ref.Val { ask(args...); return original.Function(args...) })
	}
}

func replaced(args []ref.Val) (work, allowed uint64) {
	text, old, with := string(args[0].(types.String)), string(args[1].(types.String)), string(args[2].(types.String))
	return uint64(len(text)) + uint64(strings.Count(text, old))*uint64(len(with)), maxResult
}

func joined(args []ref.Val) (work, allowed uint64) {
	work = uint64(weigh(args[0], maxResult+1))
	if len(args) > 1 {
		work += size(args[0]) * size(args[1])
	}
	return work, maxResult
}

// widePrecision finds verbs such as %.100f, which print as many digits as they say.
var widePrecision = regexp.MustCompile(`%\.[0-9]{3}`)

func formatted(args []ref.Val) (work, allowed uint64) {
	text := string(args[0].(types.String))
	if found := widePrecision.FindString(text); found != "" {
		return maxResult, 99
	}
	return uint64(len(text) + weigh(args[1], maxResult+1)), maxResult / 8 // a number of one element may print 400 bytes
}

func ranged(args []ref.Val) (work, allowed uint64) {
	return uint64(max(0, args[0].(types.Int))), maxElements
}

func flattened(args []ref.Val) (work, allowed uint64) {
	return uint64(weigh(args[0], maxResult+1)), maxResult
}

func searched(args []ref.Val) (work, allowed uint64) {
	return size(args[0]) * size(args[1]), maxCompared
}

// pairs are the comparisons of every element with every other, or with every one of the second list, each as long as the
// longest element.
func pairs(args []ref.Val) (work, allowed uint64) {
	last := args[len(args)-1]
	return size(args[0]) * uint64(weigh(last, maxResult+1)), maxCompared
}

// hugeExponent finds quantities such as 1e1000000000, which take a gigabyte once they are compared.
var hugeExponent = regexp.MustCompile(`[eE][+-]?[0-9]{4}`)

func exponent(args []ref.Val) (work, allowed uint64) {
	if text := string(args[0].(types.String)); len(text) > 64 || hugeExponent.MatchString(text) {
		return uint64(max(len(text), 65)), 64
	}
	return 0, 64
}

// parsed bounds what is made from text and of which each use then costs one, however long it is.
func parsed(args []ref.Val) (work, allowed uint64) { return size(args[0]), 8192 }

func size(v ref.Val) uint64 {
	if text, ok := v.(types.String); ok {
		return uint64(len(text))
	}
	return uint64(v.(traits.Sizer).Size().(types.Int))
}
