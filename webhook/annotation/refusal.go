// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"fmt"
	"strings"

	"github.com/certwright/certwright/excerpt"
)

// Refusal says why a pod cannot get what it asks for: every reason at once, each
// a sentence for the author of the pod.
type Refusal []string

const (
	// maxReasons bounds the length of a refusal, which ends up in events.
	maxReasons = 20
	// MaxBytes bounds the value of an annotation in bytes. What it asks for has to
	// fit into a request, which is no longer.
	MaxBytes = 16 << 10
)

// Error joins the reasons in one line.
func (r Refusal) Error() string {
	shown, rest := []string(r), ""
	if len(shown) > maxReasons {
		rest = fmt.Sprintf("; and %d more", len(shown)-maxReasons)
		shown = shown[:maxReasons]
	}
	return "this pod cannot get what it asks for: " + strings.Join(shown, "; ") + rest
}

// Addf adds a reason. Those that nobody will read are only counted.
func (r *Refusal) Addf(format string, args ...any) {
	reason := ""
	if len(*r) < maxReasons {
		reason = fmt.Sprintf(format, args...)
	}
	*r = append(*r, reason)
}

// NotAllowed is the reason to give for a value where something else is allowed.
func NotAllowed(value, allowed string) string {
	return fmt.Sprintf("%q is not allowed, use %s", Shorten(value), allowed)
}

// Shorten keeps a refusal readable when the value is not.
func Shorten(value string) string {
	const most = 100
	return excerpt.Of(value, most)
}
