// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"os"
	"testing"

	"github.com/certwright/certwright/policy/casefile"
)

// Whatever a file holds, its cases are run or refused; what is decided about one is neither passed nor lost in silence.
func FuzzLoad(f *testing.F) {
	data, err := os.ReadFile("testdata/suite/tests.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add("apiVersion: certwright.dev/v1alpha1\nkind: PolicyTest\nrequest: []\nfacts: 1\ncases: [null, {name: x, request: null, facts: {pod: null}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		documents, err := casefile.Read("testdata/suite/fuzz.yaml", []byte(text))
		if err != nil {
			return
		}
		for _, d := range documents {
			suite, err := load(t.Context(), d)
			if err != nil {
				continue
			}
			report, err := Run([]Suite{suite}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Results) != len(suite.cases) || report.Passed+report.Failed != len(suite.cases) {
				t.Errorf("%d cases, %d results, %d passed, %d failed", len(suite.cases), len(report.Results), report.Passed, report.Failed)
			}
		}
	})
}
