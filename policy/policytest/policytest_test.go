// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/terminal"
)

var update = flag.Bool("update", false, "write the golden files")

// golden holds text against a file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant, as %s has it (-update writes it anew)\n%s", got, path, want)
	}
}

func run(t *testing.T, filter string, paths ...string) *Report {
	t.Helper()
	suites, err := Load(t.Context(), paths...)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(suites, regexp.MustCompile(filter))
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestFormats(t *testing.T) {
	report := run(t, "", "testdata/suite")
	if report.Passed != 1 || report.Failed != 4 {
		t.Errorf("%d passed and %d failed, want 1 and 4", report.Passed, report.Failed)
	}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"text.golden":    func(b *bytes.Buffer) error { return Text{}.Write(b, report) },
		"verbose.golden": func(b *bytes.Buffer) error { return Text{Verbose: true, Coverage: true}.Write(b, report) },
		"tap.golden":     func(b *bytes.Buffer) error { return report.WriteTAP(b, true) },
		"junit.golden":   func(b *bytes.Buffer) error { return report.WriteJUnit(b) },
		"json.golden":    func(b *bytes.Buffer) error { return report.WriteJSON(b) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			if name != "json.golden" && strings.Contains(b.String(), "\x1b") {
				t.Error("an escape sequence of a name gets through")
			}
			golden(t, name, b.Bytes())
		})
	}
}

// What programs read must be what they expect.
func TestFormatsAreWellFormed(t *testing.T) {
	report := run(t, "", "testdata/suite")
	var b bytes.Buffer
	if err := report.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var suites junitSuites
	if err := xml.Unmarshal(b.Bytes(), &suites); err != nil || suites.Tests != 5 || suites.Failures != 4 || len(suites.Suites) != 1 || len(suites.Suites[0].Cases) != 5 {
		t.Errorf("got %+v, error %v", suites, err)
	}
	b.Reset()
	if err := report.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(b.Bytes(), &again); err != nil || !reflect.DeepEqual(&again, report) {
		t.Errorf("got %+v, error %v", again, err)
	}
	b.Reset()
	if err := report.WriteTAP(&b, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), " # SKIP") || strings.Count(b.String(), "\nnot ok ") != 4 {
		t.Errorf("a name is read as a directive, or a failure is lost:\n%s", &b)
	}
}

func TestColors(t *testing.T) {
	var mode terminal.ColorMode
	if err := mode.Set("always"); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (Text{Colors: terminal.NewPalette(mode, &b, os.Getenv)}).Write(&b, run(t, "", "testdata/suite")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\x1b[31m- Permit\x1b[0m", "\x1b[32m+ Deny\x1b[0m"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%q", want, b.String())
		}
	}
}

func TestCoverage(t *testing.T) {
	paths := func(rules []Rule) (all []string) {
		for _, r := range rules {
			all = append(all, r.Policy+" "+r.Path)
		}
		return all
	}
	for name, c := range map[string]struct {
		filter              string
		unused, notRefusing []string
	}{
		"all": {
			"",
			[]string{"web spec.allow.ipAddresses[1]", "people spec.requesters.groups[0]", "people spec.allow.commonNames[0]", "people spec.allow.usages[0]"},
			[]string{
				"web spec.signerNames", "web spec.requesters.namespaceSelector", "web spec.requesters.serviceAccounts", "web spec.allow.ipAddresses",
				"people spec.signerNames", "people spec.allow.commonNames", "people spec.allow.usages",
				"strict spec.signerNames", "strict spec.requesters.namespaceSelector", "strict spec.requesters.serviceAccounts",
			},
		},
		"one case": {
			"^passes$",
			[]string{
				"web spec.allow.dnsNames[1]", "web spec.allow.ipAddresses[1]", "people spec.requesters.groups[0]", "people spec.allow.commonNames[0]",
				"people spec.allow.usages[0]", "strict spec.allow.dnsNames[0]",
			},
			[]string{
				"web spec.signerNames", "web spec.requesters.namespaceSelector", "web spec.requesters.serviceAccounts", "web spec.allow.dnsNames",
				"web spec.allow.ipAddresses", "web spec.allow.usages", "web spec.validations[0]", "people spec.signerNames", "people spec.allow.commonNames",
				"people spec.allow.usages", "strict spec.signerNames", "strict spec.requesters.namespaceSelector", "strict spec.requesters.serviceAccounts",
				"strict spec.allow.usages",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			// The same policies, found twice, count once.
			got := run(t, c.filter, "testdata/suite", "testdata/suite/tests.yaml").Coverage
			if unused := paths(got.Unused); !slices.Equal(unused, c.unused) {
				t.Errorf("unused %q\nwant %q", unused, c.unused)
			}
			if never := paths(got.NeverRefused); !slices.Equal(never, c.notRefusing) {
				t.Errorf("never refused %q\nwant %q", never, c.notRefusing)
			}
			if got.Rules != 19 {
				t.Errorf("%d rules, want 19", got.Rules)
			}
		})
	}
	if p := (Coverage{}).Percent(); p != 100 {
		t.Errorf("no rules at all are covered by %g %%", p)
	}
}

func TestProblems(t *testing.T) {
	const head = "apiVersion: certwright.dev/v1alpha1\nkind: PolicyTest\n"
	const request = "request: {signerName: example.com/internal, requester: {username: alice}, usages: [client auth]}\n"
	for name, c := range map[string]struct{ text, want string }{
		"another version":          {"apiVersion: v1\nkind: PolicyTest\n", `:1: apiVersion: is "v1"; it must be certwright.dev/v1alpha1`},
		"unknown field":            {head + "case: []\n", ":3: case: no such field"},
		"unknown field in a case":  {head + request + "cases:\n- name: x\n  expect: {verdikt: Deny}\n", ":6: cases[0].expect.verdikt: no such field"},
		"unknown field in facts":   {head + "facts: {pods: {}}\n", ":3: facts.pods: no such field"},
		"wrong type":               {head + "cases: {}\n", ":3: cases: is a mapping; it must be a list"},
		"no cases":                 {head + "policies: [policy.yaml]\n", ":1: cases: must hold at least one case"},
		"no verdict":               {head + request + "cases:\n- name: x\n", `:5: cases[0].expect.verdict: is ""; it must be one of`},
		"no name":                  {head + request + "cases:\n- expect: {verdict: Deny}\n", ":5: cases[0]: name: must be set"},
		"a name twice":             {head + request + "cases:\n- {name: x, expect: {verdict: Deny}}\n- {name: x, expect: {verdict: Deny}}\n", `:6: cases[1].name: "x" is the name of another case`},
		"a bad duration":           {head + request + "cases:\n- name: x\n  request:\n    duration: soon\n", ":6: cases[0].request: time: invalid duration"},
		"a bad common duration":    {head + "request: {duration: soon}\ncases: []\n", ":3: request: time: invalid duration"},
		"a bad expected duration":  {head + request + "cases:\n- {name: x, expect: {verdict: Permit, maxDuration: soon}}\n", `maxDuration: is "soon"; it must be a duration such as 24h`},
		"nobody asks":              {head + "cases:\n- name: x\n  request: {signerName: example.com/a}\n  expect: {verdict: Deny}\n", ":5: cases[0].request: requester.username: must be set"},
		"impossible facts":         {head + request + "facts: {pod: {name: x}}\ncases:\n- {name: x, expect: {verdict: Deny}}\n", ":6: cases[0].facts: pod: the requester must be a service account"},
		"approval of a denial":     {head + request + "cases:\n- {name: x, expect: {verdict: Deny, approval: Manual}}\n", "approval and maxDuration go with the verdict Permit"},
		"another approval":         {head + request + "cases:\n- {name: x, expect: {verdict: Permit, approval: Never}}\n", `approval: is "Never"`},
		"violations of a permit":   {head + request + "cases:\n- {name: x, expect: {verdict: Permit, violations: [{field: uris}]}}\n", "violations: go with the verdict Deny"},
		"policy of no opinion":     {head + request + "cases:\n- {name: x, expect: {verdict: NoOpinion, policy: x}}\n", "policy: goes with the verdict Permit or Deny"},
		"violation without field":  {head + request + "cases:\n- {name: x, expect: {verdict: Deny, violations: [{contains: x}]}}\n", "violations[0]: field: must be set"},
		"audit without policy":     {head + request + "cases:\n- {name: x, expect: {verdict: Deny, audits: [{}]}}\n", "audits[0]: policy: must be set"},
		"a policy file is missing": {head + "policies: [none.yaml]\n", `:3: policies[0]: "none.yaml": no such file or directory beside this file`},
		"no policy":                {head + "policies: [tests.yaml]\n", ":3: policies: no CertificatePolicy to test"},
		"a bad policy":             {head + "policies: [bad.yaml]\n", "bad.yaml:4: spec.signerName: no such field"},
		"a request file is missing": {
			head + request + "cases:\n- {name: x, requestFile: none.pem, expect: {verdict: Deny}}\n", "none.pem: no such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{
				"tests.yaml":  c.text,
				"policy.yaml": "apiVersion: certwright.dev/v1alpha1\nkind: CertificatePolicy\nmetadata: {name: x}\nspec: {signerNames: [example.com/internal]}\n",
			} {
				write(t, dir, file, text)
			}
			if strings.Contains(c.text, "bad.yaml") {
				write(t, dir, "bad.yaml", "apiVersion: certwright.dev/v1alpha1\nkind: CertificatePolicy\nmetadata: {name: x}\nspec: {signerName: x}\n")
			}
			_, err := Load(t.Context(), filepath.Join(dir, "tests.yaml"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestNothingToTest(t *testing.T) {
	if _, err := Load(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "no test cases in") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.Context(), "testdata/none"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func write(t *testing.T, dir, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRequestFiles(t *testing.T) {
	dir := t.TempDir()
	object, err := casefile.Request{SignerName: "x", Requester: casefile.Requester{Username: "x"}, CommonName: "alice"}.Object()
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "request.pem", string(object.Spec.Request))
	write(t, dir, "words.yaml", "{signerName: example.com/internal, requester: {username: mallory}, commonName: alice, usages: [client auth]}\n")
	write(t, dir, "policy.yaml", "apiVersion: certwright.dev/v1alpha1\nkind: CertificatePolicy\nmetadata: {name: x}\nspec: {signerNames: [example.com/internal], requesters: {users: [alice]}, allow: {commonNames: [alice], usages: [client auth]}}\n")
	write(t, dir, "tests.yaml", `apiVersion: certwright.dev/v1alpha1
kind: PolicyTest
request: {signerName: example.com/internal, requester: {username: alice}, usages: [client auth]}
cases:
- {name: PEM with words beside it, requestFile: request.pem, expect: {verdict: Permit}}
- {name: words of their own, requestFile: words.yaml, expect: {verdict: NoOpinion}}
`)
	report := run(t, "", dir)
	if report.Passed != 2 {
		t.Errorf("got %+v", report.Results)
	}
	write(t, dir, "tests.yaml", "apiVersion: certwright.dev/v1alpha1\nkind: PolicyTest\ncases:\n- {name: x, requestFile: request.pem, expect: {verdict: Permit}}\n")
	if _, err := Load(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "request.pem does not say which signerName") {
		t.Errorf("got %v", err)
	}
}

// Violations are paired whatever their order, and nothing is paired twice.
func TestCompare(t *testing.T) {
	got := []found{
		{policy: "a", field: "dnsNames", values: []string{"x", "y"}, message: `dnsNames: "x", "y" not allowed`},
		{policy: "b", field: "dnsNames", values: []string{"y"}, message: `dnsNames: "y" not allowed`},
	}
	for name, c := range map[string]struct {
		want []Violation
		same bool
	}{
		"all said":              {[]Violation{{Policy: "b", Field: "dnsNames", Values: []string{"y"}}, {Policy: "a", Field: "dnsNames", Values: []string{"y", "x"}}}, true},
		"one said, one not":     {[]Violation{{Field: "dnsNames"}, {Field: "dnsNames", Values: []string{"x", "y"}}}, true},
		"the message":           {[]Violation{{Field: "dnsNames"}, {Field: "dnsNames", Contains: `"x"`}}, true},
		"one is missing":        {[]Violation{{Field: "dnsNames"}}, false},
		"one is too many":       {[]Violation{{Field: "dnsNames"}, {Field: "dnsNames"}, {Field: "dnsNames"}}, false},
		"other values":          {[]Violation{{Field: "dnsNames"}, {Field: "dnsNames", Values: []string{"x"}}}, false},
		"no values at all":      {[]Violation{{Field: "dnsNames"}, {Field: "dnsNames", Values: []string{}}}, false},
		"another policy":        {[]Violation{{Field: "dnsNames"}, {Field: "dnsNames", Policy: "c"}}, false},
		"another message":       {[]Violation{{Field: "dnsNames"}, {Field: "dnsNames", Contains: "z"}}, false},
		"another field":         {[]Violation{{Field: "dnsNames"}, {Field: "uris"}}, false},
		"one policy said twice": {[]Violation{{Field: "dnsNames", Policy: "a"}, {Field: "dnsNames", Policy: "a"}}, false},
	} {
		if differences := compare("violations", c.want, got); (len(differences) == 0) != c.same {
			t.Errorf("%s: differences are %+v", name, differences)
		}
	}
}

func TestExpectations(t *testing.T) {
	denied := outcome{Decision: policy.Decision{Verdict: policy.Deny}, violations: []found{{policy: "a", field: "uris"}, {policy: "b", field: "usages"}}}
	permitted := outcome{Decision: policy.Decision{Verdict: policy.Permit, Policy: "a", Approval: "Manual"}, audits: []audited{{"x", []found{{field: "uris"}}}}}
	for name, c := range map[string]struct {
		expect Expect
		got    outcome
		want   []string
	}{
		"a verdict alone":             {Expect{Verdict: "Deny"}, denied, nil},
		"another verdict":             {Expect{Verdict: "NoOpinion", Audits: []Audit{{Policy: "y"}}}, denied, []string{"verdict"}},
		"one that denies":             {Expect{Verdict: "Deny", Policy: "b", Violations: []Violation{{Field: "usages"}}}, denied, nil},
		"violations of the other one": {Expect{Verdict: "Deny", Policy: "b", Violations: []Violation{{Field: "uris"}}}, denied, []string{"violations", "violations"}},
		"one that does not deny":      {Expect{Verdict: "Deny", Policy: "c"}, denied, []string{"policy"}},
		"all violations":              {Expect{Verdict: "Deny", Violations: []Violation{{Field: "usages"}}}, denied, []string{"violations"}},
		"a permit":                    {Expect{Verdict: "Permit", Policy: "a", Approval: "Manual"}, permitted, nil},
		"another permit":              {Expect{Verdict: "Permit", Policy: "b", Approval: "Automatic", MaxDuration: "1h"}, permitted, []string{"policy", "approval", "maxDuration"}},
		"audits":                      {Expect{Verdict: "Permit", Audits: []Audit{{Policy: "x", Violations: []Violation{{Field: "uris"}}}}}, permitted, nil},
		"no audits":                   {Expect{Verdict: "Permit", Audits: []Audit{}}, permitted, []string{"audits"}},
		"an audit that permits":       {Expect{Verdict: "Permit", Audits: []Audit{{Policy: "x"}}}, permitted, []string{"audits of x"}},
		"another audit":               {Expect{Verdict: "Permit", Audits: []Audit{{Policy: "y"}}}, permitted, []string{"audits", "audits"}},
	} {
		var got []string
		for _, d := range c.expect.differences(c.got) {
			got = append(got, d.What)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: differs in %q, want %q", name, got, c.want)
		}
	}
}
