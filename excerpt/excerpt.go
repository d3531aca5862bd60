// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package excerpt shortens text that others wrote, such as names in a request or the words of a server, to what fits a
// condition, an event or a log line.
package excerpt

import "strings"

// ellipsis says that there was more.
const ellipsis = "…"

// MaxCondition is half of what the API allows in the message of a condition, in bytes.
const MaxCondition = 16 << 10

// Of returns the text, or its start and an ellipsis, in at most limit bytes of valid UTF-8. A limit below that of an ellipsis
// leaves nothing but it.
func Of(text string, limit int) string { return WithEnd(text, limit, ellipsis) }

// WithEnd is Of with other words than an ellipsis behind what was cut.
func WithEnd(text string, limit int, end string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	kept := max(limit-len(end), 0)
	for kept > 0 && text[kept]&0xC0 == 0x80 { // not in the middle of a character
		kept--
	}
	return text[:kept] + end
}

// Line is Of for text that is to stay on one line: every run of white space becomes one space.
func Line(text string, limit int) string { return Of(strings.Join(strings.Fields(text), " "), limit) }

// Condition is Of for the message of a condition, as the words of a server, or of a requester, may be many.
func Condition(text string) string { return Of(text, MaxCondition) }
