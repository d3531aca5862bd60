// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"io"
	"strings"

	"github.com/certwright/certwright/terminal"
)

// WriteText writes findings for people: where, what and why on one line, as compilers do, and what to do on the next.
func WriteText(w io.Writer, colors terminal.Palette, findings []Finding) error {
	var b strings.Builder
	for _, f := range findings {
		place := f.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		paint := colors.Faint
		switch f.Severity {
		case Error:
			paint = colors.Bad
		case Warning:
			paint = colors.Warn
		}
		fmt.Fprintf(&b, "%s: %s: policy %s: %s: %s %s\n", terminal.Escape(place), paint(string(f.Severity)),
			terminal.Escape(f.Policy), f.Path, terminal.Escape(f.Message), colors.Faint("["+f.ID+"]"))
		fmt.Fprintf(&b, "    %s\n", terminal.Escape(f.Advice))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
