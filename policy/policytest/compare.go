// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certwright/certwright/policy"
)

// differences holds a decision against what is expected.
func (e Expect) differences(o outcome) []Difference {
	var all []Difference
	differ := func(what, want, got string) {
		if want != "" && want != got {
			all = append(all, Difference{what, want, cmp.Or(got, "none")})
		}
	}
	differ("verdict", e.Verdict, o.Verdict.String())
	if len(all) > 0 {
		// The rest follows from the verdict: the message says why it is another one.
		return all
	}
	violations := o.violations
	if o.Verdict == policy.Deny {
		if e.Policy != "" {
			violations = slices.DeleteFunc(slices.Clone(violations), func(f found) bool { return f.policy != e.Policy })
			if len(violations) == 0 {
				differ("policy", e.Policy, strings.Join(denying(o.violations), ", "))
			}
		}
	} else {
		differ("policy", e.Policy, o.Policy)
		differ("approval", string(e.Approval), string(o.Approval))
		if want, err := lifetime(e.MaxDuration); err == nil && want != o.MaxDuration && e.MaxDuration != "" {
			differ("maxDuration", want.String(), permitted(o.MaxDuration))
		}
	}
	if len(e.Violations) > 0 {
		all = append(all, compare("violations", e.Violations, violations)...)
	}
	if e.Audits != nil {
		all = append(all, e.compareAudits(o.audits)...)
	}
	return all
}

func denying(violations []found) []string {
	var names []string
	for _, f := range violations {
		if f.policy != "" && !slices.Contains(names, f.policy) {
			names = append(names, f.policy)
		}
	}
	return names
}

func (e Expect) compareAudits(got []audited) []Difference {
	var all []Difference
	rest := slices.Clone(got)
	for _, want := range e.Audits {
		i := slices.IndexFunc(rest, func(a audited) bool { return a.policy == want.Policy })
		if i < 0 {
			all = append(all, Difference{What: "audits", Want: "policy " + strconv.Quote(want.Policy)})
			continue
		}
		all = append(all, compare("audits of "+want.Policy, want.Violations, rest[i].violations)...)
		rest = slices.Delete(rest, i, i+1)
	}
	for _, a := range rest {
		all = append(all, Difference{What: "audits", Got: "policy " + strconv.Quote(a.policy)})
	}
	return all
}

// compare pairs each violation that is expected with one that was found; what is left over on either side differs. Of two that
// are left over about the same field, the one is what became of the other.
func compare(what string, want []Violation, got []found) []Difference {
	rest := slices.Clone(got)
	take := func(matches func(found) bool) *found {
		i := slices.IndexFunc(rest, matches)
		if i < 0 {
			return nil
		}
		f := rest[i]
		rest = slices.Delete(rest, i, i+1)
		return &f
	}
	// Those that say more choose first, so that they do not go away empty-handed.
	want = slices.Clone(want)
	slices.SortStableFunc(want, func(a, b Violation) int { return cmp.Compare(b.says(), a.says()) })
	var missing []Violation
	for _, w := range want {
		if take(w.matches) == nil {
			missing = append(missing, w)
		}
	}
	var all []Difference
	for _, w := range missing {
		d := Difference{What: what, Want: w.String()}
		if f := take(func(f found) bool { return f.field == w.Field }); f != nil {
			d.Got = f.message
		}
		all = append(all, d)
	}
	for _, f := range rest {
		all = append(all, Difference{What: what, Got: f.message})
	}
	return all
}

func (v Violation) matches(f found) bool {
	return f.field == v.Field && (v.Policy == "" || v.Policy == f.policy) &&
		(v.Values == nil || slices.Equal(sorted(v.Values), sorted(f.values))) && strings.Contains(f.message, v.Contains)
}

// says is how much is said about a violation besides its field.
func (v Violation) says() int {
	n := 0
	for _, said := range []bool{v.Policy != "", v.Values != nil, v.Contains != ""} {
		if said {
			n++
		}
	}
	return n
}

// String says what is expected.
func (v Violation) String() string {
	text := v.Field
	if v.Policy != "" {
		text = fmt.Sprintf("policy %q: %s", v.Policy, text)
	}
	if v.Values != nil {
		quoted := make([]string, 0, len(v.Values))
		for _, value := range v.Values {
			quoted = append(quoted, strconv.Quote(value))
		}
		text += fmt.Sprintf(": %s not allowed", strings.Join(quoted, ", "))
	}
	if v.Contains != "" {
		text += fmt.Sprintf(", with %q in the message", v.Contains)
	}
	return text
}

// permitted says how long a permitted lifetime is.
func permitted(longest time.Duration) string {
	if longest == 0 {
		return "none"
	}
	return longest.String()
}

func sorted(values []string) []string { return slices.Sorted(slices.Values(values)) }
