// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/policy/lint"
	"github.com/certwright/certwright/policy/policytest"
	"github.com/certwright/certwright/terminal"
)

const examplePolicies = "examples/policies"

// Each rule of an example policy has a case that it permits and one that it refuses.
func TestExamplePolicies(t *testing.T) {
	suites, err := policytest.Load(t.Context(), examplePolicies)
	if err != nil {
		t.Fatal(err)
	}
	report, err := policytest.Run(suites, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed > 0 || report.Passed == 0 || len(report.Coverage.Unused) > 0 {
		var text bytes.Buffer
		if err := (policytest.Text{Coverage: true}).Write(&text, report); err != nil {
			t.Fatal(err)
		}
		t.Error(text.String())
	}
	refusesNothing := []string{
		"people spec.allow.commonNames", // all of them: the first validation bounds them
		"web-servers spec.allow.keys",   // those that can be read at all
	}
	var never []string
	for _, r := range report.Coverage.NeverRefused {
		never = append(never, r.Policy+" "+r.Path)
	}
	slices.Sort(never)
	if !slices.Equal(never, refusesNothing) {
		t.Errorf("no case is refused by %q; want all to have one but %q", never, refusesNothing)
	}
}

func TestEachExamplePolicyHasTests(t *testing.T) {
	policies, err := filepath.Glob(examplePolicies + "/*/policy.yaml")
	if err != nil || len(policies) == 0 {
		t.Fatal("no example policies", err)
	}
	for _, file := range policies {
		if _, err := policytest.Load(t.Context(), filepath.Dir(file)); err != nil {
			t.Error(err)
		}
	}
}

func TestExamplePoliciesLookRight(t *testing.T) {
	files, err := casefile.LoadPolicies(t.Context(), examplePolicies)
	if err != nil {
		t.Fatal(err)
	}
	var policies []lint.Policy
	for _, p := range files {
		policies = append(policies, lint.Policy{Object: p.Object, File: p.Document.File, Line: p.Document.Line})
	}
	if findings := lint.Lint(policies); len(findings) > 0 {
		var text bytes.Buffer
		if err := lint.WriteText(&text, terminal.Palette{}, findings); err != nil {
			t.Fatal(err)
		}
		t.Error(text.String())
	}
}

// cookbook matches what the cookbook quotes of a policy.
var cookbook = regexp.MustCompile("(?s)\\(\\.\\./manifests/(examples/policies/[a-z-]+/policy\\.yaml)\\):\n\n```yaml\n(.*?)```")

// What the cookbook quotes stands in the policies, line by line and in this order.
func TestCookbookQuotesPolicies(t *testing.T) {
	text, err := os.ReadFile("../docs/policy-cookbook.md")
	if err != nil {
		t.Fatal(err)
	}
	policies, err := filepath.Glob(examplePolicies + "/*/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	quotes := cookbook.FindAllStringSubmatch(string(text), -1)
	if len(quotes) != len(policies) {
		t.Errorf("the cookbook quotes %d policies, and there are %d", len(quotes), len(policies))
	}
	for _, quote := range quotes {
		file, err := os.ReadFile(quote[1])
		if err != nil {
			t.Error(err)
			continue
		}
		rest := strings.Split(string(file), "\n")
		for line := range strings.Lines(quote[2]) {
			i := slices.Index(rest, strings.TrimSuffix(line, "\n"))
			if i < 0 {
				t.Errorf("%s: no line %q below the one before", quote[1], line)
				break
			}
			rest = rest[i+1:]
		}
	}
}

// The test cases that the command line's guide shows are those of a policy that there is.
func TestGuideShowsTestCases(t *testing.T) {
	text, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, cases, _ := strings.Cut(string(text), "```yaml\napiVersion: certwright.dev/v1alpha1\nkind: PolicyTest\n")
	cases, _, _ = strings.Cut(cases, "```")
	policy, err := os.ReadFile(examplePolicies + "/web-servers/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"policy.yaml": string(policy), "tests.yaml": "apiVersion: certwright.dev/v1alpha1\nkind: PolicyTest\n" + cases} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	suites, err := policytest.Load(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := policytest.Run(suites, nil); err != nil || report.Passed != 2 || report.Failed != 0 {
		t.Errorf("got %+v, error %v", report, err)
	}
}
