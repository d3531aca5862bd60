// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"strings"
	"unicode"

	"github.com/certwright/certwright/excerpt"
)

// maxWords is how many bytes of a server's words are quoted.
const maxWords = 300

// Bound makes the words of a server fit to be quoted in an error, an event or a condition: one line of at most 300 bytes of
// printable characters.
func Bound(text string) string {
	return excerpt.Line(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text), maxWords)
}
