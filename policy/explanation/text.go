// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package explanation

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/terminal"
)

const (
	tick  = "✓"
	cross = "✗"
	dot   = "·"
)

// WriteText writes the explanation for people, with times relative to now.
func (e *Explanation) WriteText(w io.Writer, colors terminal.Palette, now time.Time) error {
	if err := e.Request.WriteText(w, colors, now); err != nil {
		return err
	}
	t := &text{colors: colors}
	fmt.Fprintln(t)
	for i := range e.Policies {
		t.policy(&e.Policies[i])
	}
	if len(e.Policies) > 0 {
		fmt.Fprintln(t)
	}
	t.verdict(e)
	_, err := io.WriteString(w, t.String())
	return err
}

type text struct {
	strings.Builder
	colors terminal.Palette
}

func (t *text) verdict(e *Explanation) {
	var paint func(string) string
	switch e.verdict {
	case policy.Permit:
		paint = t.colors.Good
	case policy.Deny:
		paint = t.colors.Bad
	default:
		paint = t.colors.Warn
	}
	fmt.Fprintf(t, "%s: %s\n", paint(e.Verdict), terminal.Escape(e.Message))
	if e.verdict == policy.Permit {
		fmt.Fprintf(t, "  %s\n", terms(e.Approval, e.MaxDuration))
	}
	for _, quota := range e.Quotas {
		fmt.Fprintf(t, "  within the quota per %s: a request over it waits\n", quota.Per)
	}
	for _, note := range e.Notes {
		fmt.Fprintf(t, "%s %s\n", t.colors.Warn("note:"), terminal.Escape(note))
	}
}

// terms says in words what comes with a permit.
func terms(approval v1alpha1.Approval, maxDuration string) string {
	words := "approved at once"
	if approval == v1alpha1.ApprovalManual {
		words = "a person must approve it"
	}
	if maxDuration != "" {
		words += ", for at most " + maxDuration
	}
	return words
}

func (t *text) policy(p *Policy) {
	mark, words := t.colors.Faint(dot), "does not select this request"
	switch {
	case p.Permitted:
		mark, words = t.colors.Good(tick), "permits this request: "+terms(p.Approval, p.MaxDuration)
	case p.Selected:
		mark, words = t.colors.Bad(cross), "selects this request and does not permit it"
	}
	if p.Mode == v1alpha1.ModeAudit {
		words += "; in mode Audit it decides nothing"
	}
	fmt.Fprintf(t, "%s policy %s %s\n", mark, t.colors.Strong(terminal.Escape(p.Name)), words)
	for _, c := range slices.Concat(p.Selection, p.Rules) {
		t.check(c)
	}
}

// check writes one check on a line of its own, and what would have to change below it.
func (t *text) check(c Check) {
	mark := t.colors.Good(tick)
	if !c.Passed {
		mark = t.colors.Bad(cross)
	}
	fmt.Fprintf(t, "    %s %s", mark, c.Path)
	if len(c.Asked) > 0 {
		fmt.Fprintf(t, "  %s", strings.Join(terminal.EscapeAll(c.Asked), ", "))
	}
	// The rules that matched say why it passed; where there are none the message does.
	used := slices.DeleteFunc(slices.Clone(c.Used), func(path string) bool { return path == c.Path })
	switch {
	case !c.Passed && c.Message != "":
		fmt.Fprintf(t, "\n        %s", terminal.Escape(c.Message))
	case len(used) > 0:
		fmt.Fprintf(t, "  %s", t.colors.Faint("by "+strings.Join(used, ", ")))
	case c.Message != "":
		fmt.Fprintf(t, "  %s", t.colors.Faint(terminal.Escape(c.Message)))
	}
	fmt.Fprintln(t)
}
