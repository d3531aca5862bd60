// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample is a package with each kind of place that can be changed, and first evaluates what must not be evaluated twice.
const sample = `package sample

// Limit is not changed where it is declared, but where something is compared with it.
const Limit = 5 * 2

type list struct {
	next *list
	last bool
}

func pop(n *int) bool { *n--; return *n > 0 }

func Clamp(n int) int {
	if n > Limit {
		return Limit
	}
	return n
}

func Last(l *list) bool { return l != nil && (l.last || !pop(new(int)) && l.next == nil) }

func Count(bytes string) (n int) {
	for i := 0; i < len(bytes); i++ {
		if bytes[i] == 'b' {
			continue
		}
		n++
	}
	return n
}

func Size(n uint8) string {
	switch {
	case n == 0:
		return "none"
	case 100 <= n:
		return "large"
	}
	return "some"
}

var Yes = list{last: true}
`

const sampleTest = `package sample

import "testing"

func Test(t *testing.T) {
	n := 3
	for pop(&n) {
	}
	switch {
	case n != 0, Clamp(11) != 10, Clamp(9) != 9, Clamp(12) != 10:
		t.Error("Clamp, pop")
	case !Yes.last, !Last(&Yes), Last(nil), Last(&list{next: &Yes}), !Last(&list{}), !Last(&list{next: &Yes, last: true}):
		t.Error("Last")
	case Count("abcca") != 4, Count("") != 0:
		t.Error("Count")
	case Size(0) != "none", Size(1) != "some", Size(99) != "some", Size(100) != "large", Size(101) != "large":
		t.Error("Size")
	}
}
`

// inSample changes to a module with the sample and its test, and returns the path of a list of known survivors.
func inSample(t *testing.T, test string, known ...string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26\n", "sample/sample.go": sample, "sample/sample_test.go": test, "known.txt": strings.Join(known, "\n\n"),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "known.txt"
}

// boundary is of no effect, as the limit is what a number at the limit is.
const boundary = "sample/sample.go\nif n > Limit {\nn > Limit: >= for >\nClamp gives the limit for the limit either way."

func TestRun(t *testing.T) {
	const letPass = "LET PASS sample/sample.go:"
	for name, c := range map[string]struct {
		test    string
		known   []string
		only    string
		least   float64
		out     []string // in what is written
		problem string   // in the error; none if it succeeds
	}{
		"tests that notice all": {sampleTest, []string{"# a comment\n" + boundary}, "", 100, []string{"no effect sample/sample.go:14: if n > Limit {\n    n > Limit: >= for >\n    Clamp gives", "100.0 %"}, ""},
		"a known change that is noticed": {
			sampleTest,
			[]string{boundary, "sample/sample.go\nif n > Limit {\nn > Limit: <= for >\nno reason"},
			"", 90, nil,
			"known.txt lists a change that is not let pass, or not there any more; take it out:\nsample/sample.go\nif n > Limit {\nn > Limit: <= for >",
		},
		"a known change of another package": {sampleTest, []string{boundary, "other/x.go\na\nb\nc"}, "", 100, nil, ""},
		"tests that miss a limit": {
			strings.ReplaceAll(sampleTest, "Clamp(11)", "10"),
			[]string{boundary},
			"", 99,
			[]string{letPass + "14: if n > Limit {\n    n > Limit: Limit+1\n"},
			"must notice 99 %",
		},
		"tests that miss a limit, for those who care less": {strings.ReplaceAll(sampleTest, "Clamp(11)", "10"), []string{boundary}, "", 95, []string{letPass}, ""},
		"tests that do not end": {
			"package sample\n\nimport \"testing\"\n\nfunc Test(*testing.T) {\n\tfor Clamp(11) != 10 {\n\t}\n}\n",
			[]string{boundary},
			"sample/sample.go:14:", 100,
			[]string{"tried 4 of 4, let pass 1, stopped 3 without an end"},
			"",
		},
		"no tests":               {"package sample\n", nil, "", 1, []string{letPass + "11: func pop", letPass + "42: var Yes"}, "the tests notice 0.0 % of the changes"},
		"some lines":             {sampleTest, nil, "sample/sample.go:24:", 100, []string{"4 changes, of them 0"}, ""},
		"no line":                {sampleTest, nil, "nowhere", 0, nil, "found nothing to change"},
		"tests that fail":        {strings.ReplaceAll(sampleTest, "Clamp(9) != 9", "true"), nil, "", 0, nil, "the tests fail without a mutant"},
		"tests do not compile":   {"package sample\n\nvar x = y\n", nil, "", 0, nil, "undefined: y"},
		"a broken list of known": {sampleTest, []string{"a\nb"}, "", 0, nil, "an entry has 2 lines, and must have 4"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{known: inSample(t, c.test, c.known...), least: c.least, patience: 100 * time.Millisecond, workers: 2}
			if c.only != "" {
				o.only = regexp.MustCompile(c.only)
			}
			var out strings.Builder
			err := run(t.Context(), o, []string{"./sample"}, &out)
			if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("got error %v, want %q\n%s", err, c.problem, out.String())
			}
			for _, text := range c.out {
				if !strings.Contains(out.String(), text) {
					t.Errorf("got\n%s\nwithout %s", out.String(), text)
				}
			}
			if now, err := os.ReadFile("sample/sample.go"); err != nil || string(now) != sample {
				t.Errorf("the tree is changed: %v", err)
			}
		})
	}
}

// TestChanges lists all changes that are made to the sample.
func TestChanges(t *testing.T) {
	inSample(t, sampleTest)
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	all, err := list(t.Context(), root, []string{"./sample"})
	if err != nil {
		t.Fatal(err)
	}
	_, mutants, err := build(t.Context(), root, t.TempDir(), all[len(all)-1], nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, m := range mutants {
		if m.id != i+1 {
			t.Errorf("%v has the id %d, want %d", m, m.id, i+1)
		}
		got = append(got, m.change)
	}
	slices.Sort(got)
	want := []string{
		"*n > 0: 0+1", "*n > 0: <= for >", "*n > 0: >= for >",
		"!pop(new(int)): without !", "!pop(new(int)) && l.next == nil: || for &&",
		"100 <= n: 100-1", "100 <= n: < for <=", "100 <= n: > for <=", "100 <= n: never",
		"bytes[i] == 'b': != for ==", "bytes[i] == 'b': 'b'+1", "bytes[i] == 'b': 'b'-1", "bytes[i] == 'b': never",
		"i < len(bytes): <= for <", "i < len(bytes): >= for <",
		"l != nil: == for !=", "l.last: negated", "l.last || !pop(new(int)) && l.next == nil: && for ||", "l.next == nil: != for ==",
		"l != nil && (l.last || !pop(new(int)) && l.next == nil): || for &&",
		"n == 0: != for ==", "n == 0: never",
		"n > Limit: <= for >", "n > Limit: >= for >", "n > Limit: Limit+1", "n > Limit: never",
		"true: false for true",
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
