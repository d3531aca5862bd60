// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	// maxText bounds one text in bytes: a whole DNS name fits.
	maxText = 256
	// maxList bounds the values of one line together, in bytes, but for one that is as long by itself.
	maxList = 320
)

// plain matches text that cannot be taken for more than one value, nor for words around it.
var plain = regexp.MustCompile(`^[A-Za-z0-9*][A-Za-z0-9*._:/@+-]*$`)

// text returns the text itself if it is plain, and otherwise quoted.
func text(s string) string {
	if len(s) <= maxText && plain.MatchString(s) {
		return s
	}
	return quoted(s)
}

// quoted returns the text in quotes and with escapes, as Go writes it. Of one that is too long it shows both ends: the
// beginning of a host name is what fools people, and its end what it is.
func quoted(s string) string {
	const end = 100
	q := strconv.QuoteToASCII(s)
	if len(q) <= maxText {
		return q
	}
	return fmt.Sprintf(`%s"[... %d bytes in all ...]"%s`, q[:end], len(s), q[len(q)-end:])
}

// texts returns what each value is as text.
func texts[T any](values []T) []string {
	all := make([]string, 0, len(values))
	for _, v := range values {
		all = append(all, text(fmt.Sprint(v)))
	}
	return all
}

// list joins the values that there is room for, the first one in any case, and counts the others.
func list(values []string) string {
	n, bytes := 1, len(values[0])
	for n < len(values) && bytes+len(values[n]) <= maxList {
		bytes += len(", ") + len(values[n])
		n++
	}
	joined := strings.Join(values[:n], ", ")
	if n < len(values) {
		joined += fmt.Sprintf(", and %d more that are not shown", len(values)-n)
	}
	return joined
}
