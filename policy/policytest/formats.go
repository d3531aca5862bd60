// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/certwright/certwright/terminal"
)

// WriteJSON writes the whole report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteTAP writes the results in the Test Anything Protocol, version 14, with the coverage as comments if that is wanted.
func (r *Report) WriteTAP(w io.Writer, coverage bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(r.Results))
	for i := range r.Results {
		result := &r.Results[i]
		word := "ok"
		if !result.Passed {
			word = "not ok"
		}
		fmt.Fprintf(&b, "%s %d - %s\n", word, i+1, tapEscape.Replace(terminal.Escape(result.Name)))
		if result.Passed {
			continue
		}
		fmt.Fprintf(&b, "  ---\n  at: %q\n  message: |\n", fmt.Sprintf("%s:%d", result.File, result.Line))
		for line := range strings.Lines(result.text()) {
			fmt.Fprintf(&b, "    %s\n", terminal.Escape(strings.TrimSuffix(line, "\n")))
		}
		fmt.Fprintln(&b, "  ...")
	}
	if coverage {
		for _, line := range r.Coverage.lines() {
			fmt.Fprintf(&b, "# %s\n", terminal.Escape(line))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tapEscape keeps a name from being read as a directive, such as # SKIP.
var tapEscape = strings.NewReplacer(`\`, `\\`, "#", `\#`)

// The elements of JUnit's XML, as far as programs that read it agree on them.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	File      string        `xml:"file,attr"`
	Line      int           `xml:"line,attr"`
	Failure   *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the results as JUnit's XML, with a suite for each file.
func (r *Report) WriteJUnit(w io.Writer) error {
	all := junitSuites{Tests: len(r.Results), Failures: r.Failed}
	for i := range r.Results {
		result := &r.Results[i]
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != result.File {
			all.Suites = append(all.Suites, junitSuite{Name: result.File})
		}
		suite := &all.Suites[len(all.Suites)-1]
		suite.Tests++
		c := junitCase{Name: result.Name, ClassName: result.File, File: result.File, Line: result.Line}
		if !result.Passed {
			suite.Failures++
			c.Failure = &junitFailure{Message: "differs in " + strings.Join(result.differing(), ", "), Text: result.text()}
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r *Result) differing() []string {
	var names []string
	for _, d := range r.Differences {
		names = append(names, d.What)
	}
	return slices.Compact(names)
}
