// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"fmt"
	"io"
	"strings"

	"github.com/certwright/certwright/terminal"
)

// Text says what a report for people holds.
type Text struct {
	Colors terminal.Palette
	// Verbose also shows the cases that passed.
	Verbose bool
	// Coverage also shows which rules no case touched.
	Coverage bool
}

// Write writes the report for people.
func (t Text) Write(w io.Writer, r *Report) error {
	var b strings.Builder
	file := ""
	for i := range r.Results {
		result := &r.Results[i]
		if result.Passed && !t.Verbose {
			continue
		}
		if result.File != file {
			file = result.File
			fmt.Fprintln(&b, t.Colors.Strong(terminal.Escape(file)))
		}
		t.result(&b, result)
	}
	if t.Coverage {
		t.coverage(&b, r.Coverage)
	}
	words := t.Colors.Good(fmt.Sprintf("%d passed", r.Passed))
	if r.Failed > 0 {
		words += ", " + t.Colors.Bad(fmt.Sprintf("%d failed", r.Failed))
	}
	fmt.Fprintln(&b, words)
	_, err := io.WriteString(w, b.String())
	return err
}

func (t Text) result(b *strings.Builder, r *Result) {
	if r.Passed {
		fmt.Fprintf(b, "  %s %s\n", t.Colors.Good("✓"), terminal.Escape(r.Name))
		return
	}
	fmt.Fprintf(b, "  %s %s %s\n", t.Colors.Bad("✗"), terminal.Escape(r.Name), t.Colors.Faint(fmt.Sprintf("(line %d)", r.Line)))
	for _, line := range r.diff() {
		paint := func(text string) string { return text }
		switch line[:2] {
		case "- ":
			paint = t.Colors.Bad
		case "+ ":
			paint = t.Colors.Good
		}
		fmt.Fprintf(b, "      %s\n", paint(terminal.Escape(line)))
	}
	fmt.Fprintf(b, "      %s\n", t.Colors.Faint("decided: "+terminal.Escape(r.Message)))
}

// diff is the lines of a diff from what was expected to what was decided, below what they are about.
func (r *Result) diff() []string {
	var lines []string
	for i, d := range r.Differences {
		if i == 0 || d.What != r.Differences[i-1].What {
			lines = append(lines, "@ "+d.What)
		}
		if d.Want != "" {
			lines = append(lines, "- "+d.Want)
		}
		if d.Got != "" {
			lines = append(lines, "+ "+d.Got)
		}
	}
	return lines
}

// text is the diff without colour, for formats that programs read.
func (r *Result) text() string {
	return strings.Join(append(r.diff(), "decided: "+r.Message), "\n") + "\n"
}

func (t Text) coverage(b *strings.Builder, c Coverage) {
	for _, line := range c.lines() {
		fmt.Fprintln(b, terminal.Escape(line))
	}
}

// WriteText writes the coverage for people.
func (c Coverage) WriteText(w io.Writer) error {
	_, err := io.WriteString(w, strings.Join(terminal.EscapeAll(c.lines()), "\n")+"\n")
	return err
}

func (c Coverage) lines() []string {
	var lines []string
	list := func(title string, rules []Rule) {
		if len(rules) > 0 {
			lines = append(lines, title)
		}
		for _, r := range rules {
			lines = append(lines, fmt.Sprintf("  %s:%d: policy %s: %s", r.File, r.Line, r.Policy, r.Path))
		}
	}
	list("no case touches", c.Unused)
	list("no case is refused by", c.NeverRefused)
	return append(lines, fmt.Sprintf("%d of %d rules touched, %.1f %%", c.Used, c.Rules, c.Percent()))
}
