// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"encoding/json"

	"github.com/certwright/certwright/policy/casefile"
)

// rawTest is the parts of a Test that are laid over each other, as they stand.
type rawTest struct {
	Request any       `json:"request"`
	Facts   any       `json:"facts"`
	Cases   []rawCase `json:"cases"`
}

type rawCase struct {
	Request any `json:"request"`
	Facts   any `json:"facts"`
}

// parts takes a document apart.
func parts(d casefile.Document) (raw rawTest, err error) {
	var all any
	if err := d.Decode(&all); err != nil {
		return raw, err
	}
	// What is wrong with the shape is said of the Test.
	err = overlay(&raw, all)
	return raw, err
}

// check finds the parts that cannot be decoded.
func (t rawTest) check(d casefile.Document) error {
	var problems casefile.Problems
	one := func(path string, into, value any) {
		if err := overlay(into, value); err != nil {
			problems = append(problems, d.Problem(path, err.Error()))
		}
	}
	one("request", &casefile.Request{}, t.Request)
	one("facts", &casefile.Facts{}, t.Facts)
	for i, c := range t.Cases {
		one(at("cases", i)+".request", &casefile.Request{}, c.Request)
		one(at("cases", i)+".facts", &casefile.Facts{}, c.Facts)
	}
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// overlay decodes one layer after the other into the same value.
func overlay(into any, layers ...any) error {
	for _, layer := range layers {
		if layer == nil {
			continue
		}
		data, err := json.Marshal(layer)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, into); err != nil {
			return err
		}
	}
	return nil
}
