// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/certwright/certwright/excerpt"
)

// maxWords is how many bytes of a server's words are quoted.
const maxWords = 300

// Bound makes the words of a server fit to be quoted in an error, an event or a condition: one line of at most 300 bytes of
// printable characters.
func Bound(text string) string { return excerpt.Of(Line(text), maxWords) }

// Quote is Bound in quotation marks.
func Quote(text string) string { return strconv.Quote(Bound(text)) }

// Line makes the words of a server one line of printable characters, however long: for who wants to understand them before they
// are cut.
func Line(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
}
