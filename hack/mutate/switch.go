// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// switchCode is the file that is added to a package. The rewritten code asks it which mutant is switched on.
const switchCode = `package %s

import (
	mutantcmp "cmp"
	mutantos "os"
	mutantstrconv "strconv"
)

var mutantActive, _ = mutantstrconv.Atoi(mutantos.Getenv("MUTANT"))

func mutantOn(id int) bool { return id == mutantActive }

func mutantOrdered[T mutantcmp.Ordered](id int, op rune, a, b T) bool {
	switch mutantActive {
	case id: // the other boundary
		switch op {
		case '<':
			return a <= b
		case '≤':
			return a < b
		case '>':
			return a >= b
		default:
			return a > b
		}
	case id + 1:
		return !mutantOrder(op, a, b)
	}
	return mutantOrder(op, a, b)
}

func mutantOrder[T mutantcmp.Ordered](op rune, a, b T) bool {
	switch op {
	case '<':
		return a < b
	case '≤':
		return a <= b
	case '>':
		return a > b
	default:
		return a >= b
	}
}

func mutantShiftedLeft[T mutantcmp.Ordered](id int, op rune, a, b, shifted T) bool {
	if mutantOn(id + 2) {
		return mutantOrder(op, shifted, b)
	}
	return mutantOrdered(id, op, a, b)
}

func mutantShiftedRight[T mutantcmp.Ordered](id int, op rune, a, b, shifted T) bool {
	if mutantOn(id + 2) {
		return mutantOrder(op, a, shifted)
	}
	return mutantOrdered(id, op, a, b)
}

func mutantEqual[T comparable](id int, a, constant, more, less T) bool {
	switch mutantActive {
	case id:
		return a != constant
	case id + 1:
		return a == more
	case id + 2:
		return a == less
	}
	return a == constant
}
`
