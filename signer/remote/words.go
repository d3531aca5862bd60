// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"strings"
	"unicode"
)

// maxWords is how many characters of a server's words are quoted.
const maxWords = 300

// Bound makes the words of a server fit to be quoted in an error, an event or a condition: one line of at most 300
// printable characters.
func Bound(text string) string {
	var b strings.Builder
	count, space := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			space = count > 0
			continue
		}
		if count >= maxWords {
			return b.String() + "…"
		}
		if space {
			b.WriteByte(' ')
			count++
		}
		b.WriteRune(r)
		count, space = count+1, false
	}
	return b.String()
}
