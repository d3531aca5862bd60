// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/casefile"
)

// Suite is test cases that are ready to run, and the policies that they are about.
type Suite struct {
	// File that the cases stand in.
	File     string
	Policies []casefile.Policy

	cases []testCase
}

// testCase is a case with all that a decision needs.
type testCase struct {
	Case
	line   int
	object *certificatesv1.CertificateSigningRequest
	facts  *casefile.Facts
}

// Load reads the test cases of files, and of directories and those in them. The error is a casefile.Problems with all that is
// wrong in these files and in the policies that they name, or says that there is nothing to test.
func Load(ctx context.Context, paths ...string) ([]Suite, error) {
	var suites []Suite
	var problems casefile.Problems
	collect := func(err error) error {
		var found casefile.Problems
		if !errors.As(err, &found) {
			return err
		}
		problems = append(problems, found...)
		return nil
	}
	for _, path := range paths {
		documents, err := casefile.ReadPath(path)
		if err := collect(err); err != nil {
			return nil, err
		}
		for _, d := range documents {
			if apiVersion, kind := d.Kind(); kind != Kind {
				continue
			} else if want := v1alpha1.GroupVersion.String(); apiVersion != want {
				problems = append(problems, d.Problem("apiVersion", fmt.Sprintf("is %q; it must be %s", apiVersion, want)))
				continue
			}
			suite, err := load(ctx, d)
			if err := collect(err); err != nil {
				return nil, err
			}
			suites = append(suites, suite)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	if len(suites) == 0 {
		return nil, fmt.Errorf("no test cases in %q: they stand in documents of kind %s with apiVersion %s", paths, Kind, v1alpha1.GroupVersion)
	}
	return suites, nil
}

func load(ctx context.Context, d casefile.Document) (Suite, error) {
	var test Test
	decoding := d.Decode(&test)
	raw, shape := parts(d)
	var found casefile.Problems
	if errors.As(decoding, &found) && found[0].Path == "" && shape == nil {
		// What types say without a path, as of a malformed duration, is better said of the part that it stands in.
		if better := raw.check(d); better != nil {
			return Suite{}, better
		}
	}
	if decoding != nil || shape != nil {
		return Suite{}, errors.Join(decoding, shape)
	}
	l := loader{Document: d, dir: filepath.Dir(d.File), names: map[string]bool{}}
	suite := Suite{File: d.File}
	var err error
	if suite.Policies, err = l.policies(ctx, test.Policies); err != nil {
		return Suite{}, err
	}
	if len(test.Cases) == 0 {
		l.problem("cases", "must hold at least one case")
	}
	for i, c := range test.Cases {
		suite.cases = append(suite.cases, l.testCase(i, c, raw))
	}
	if len(l.problems) > 0 {
		return Suite{}, l.problems
	}
	return suite, nil
}

// loader collects what is wrong with one document.
type loader struct {
	casefile.Document
	dir      string
	names    map[string]bool
	problems casefile.Problems
}

func (l *loader) problem(path, format string, args ...any) {
	l.problems = append(l.problems, l.Problem(path, fmt.Sprintf(format, args...)))
}

// policies reads the policies under test. A problem in one of them is told with its own file and line.
func (l *loader) policies(ctx context.Context, paths []string) ([]casefile.Policy, error) {
	if len(paths) == 0 {
		entries, err := os.ReadDir(l.dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) {
				paths = append(paths, entry.Name())
			}
		}
	}
	var documents []casefile.Document
	for i, path := range paths {
		found, err := casefile.ReadPath(filepath.Join(l.dir, path))
		if errors.Is(err, os.ErrNotExist) {
			return nil, casefile.Problems{l.Problem(at("policies", i), fmt.Sprintf("%q: no such file or directory beside this file", path))}
		}
		if err != nil {
			return nil, err
		}
		documents = append(documents, found...)
	}
	policies, err := casefile.Policies(ctx, documents)
	if err == nil && len(policies) == 0 {
		err = casefile.Problems{l.Problem("policies", "no CertificatePolicy to test: put one beside this file, or name files under policies")}
	}
	return policies, err
}

func (l *loader) testCase(i int, c Case, raw rawTest) testCase {
	path := at("cases", i)
	loaded := testCase{Case: c, line: l.Line(path)}
	if c.Name == "" {
		l.problem(path, "name: must be set, to tell cases apart")
	} else if l.names[c.Name] {
		l.problem(path+".name", "%q is the name of another case already", c.Name)
	}
	l.names[c.Name] = true
	l.expect(path+".expect", c.Expect)

	var request casefile.Request
	var err error
	if err := overlay(&request, raw.Request, raw.Cases[i].Request); err != nil {
		l.problem(path+".request", "%v", err)
		return loaded
	}
	if c.RequestFile == "" {
		loaded.object, err = request.Object()
	} else {
		loaded.object, err = l.requestFile(c.RequestFile, request)
	}
	if err != nil {
		l.problem(path+".request", "%v", err)
		return loaded
	}
	loaded.facts = &casefile.Facts{}
	if err := overlay(loaded.facts, raw.Facts, raw.Cases[i].Facts); err != nil {
		l.problem(path+".facts", "%v", err)
	} else if _, err := loaded.known(); err != nil {
		l.problem(path+".facts", "%v", err)
	}
	return loaded
}

// requestFile reads a request from a file; request fills in what a file in PEM cannot say.
func (l *loader) requestFile(name string, request casefile.Request) (*certificatesv1.CertificateSigningRequest, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		return nil, err
	}
	object, err := casefile.ReadRequest(name, data)
	if err != nil {
		return nil, err
	}
	if object.Spec.SignerName == "" {
		object.Spec.SignerName = request.SignerName
	}
	if len(object.Spec.Usages) == 0 {
		object.Spec.Usages = request.Usages
	}
	if object.Spec.Username == "" {
		casefile.Stamp(object, csr.Requester(request.Requester))
	}
	if object.Spec.SignerName == "" || object.Spec.Username == "" {
		return nil, fmt.Errorf("%s does not say which signerName it asks and who asks: set signerName and requester in request", name)
	}
	return object, nil
}

// known returns the facts as they are decided on.
func (c *testCase) known() (policy.Facts, error) {
	s := &c.object.Spec
	return c.facts.For(csr.Requester{Username: s.Username, UID: s.UID, Groups: s.Groups, Extra: s.Extra})
}

// expect checks that what is expected can happen at all.
func (l *loader) expect(path string, e Expect) {
	oneOf := func(name, value string, known ...string) {
		if !slices.Contains(known, value) {
			l.problem(path+"."+name, "is %q; it must be one of %q", value, known)
		}
	}
	oneOf("verdict", e.Verdict, policy.Permit.String(), policy.Deny.String(), policy.NoOpinion.String())
	oneOf("approval", string(e.Approval), "", string(v1alpha1.ApprovalAutomatic), string(v1alpha1.ApprovalManual))
	if _, err := lifetime(e.MaxDuration); err != nil {
		l.problem(path+".maxDuration", "is %q; it must be a duration such as 24h", e.MaxDuration)
	}
	permits, denies := e.Verdict == policy.Permit.String(), e.Verdict == policy.Deny.String()
	switch {
	case !permits && (e.Approval != "" || e.MaxDuration != ""):
		l.problem(path, "approval and maxDuration go with the verdict Permit")
	case !denies && len(e.Violations) > 0:
		l.problem(path+".violations", "go with the verdict Deny; those of policies in mode Audit stand in audits")
	case !permits && !denies && e.Policy != "":
		l.problem(path+".policy", "goes with the verdict Permit or Deny")
	}
	l.violations(path+".violations", e.Violations)
	for i, audit := range e.Audits {
		path := at(path+".audits", i)
		if audit.Policy == "" {
			l.problem(path, "policy: must be set")
		}
		l.violations(path+".violations", audit.Violations)
	}
}

func (l *loader) violations(path string, violations []Violation) {
	for i, v := range violations {
		if v.Field == "" {
			l.problem(at(path, i), "field: must be set, such as dnsNames or validations[0]")
		}
	}
}

// lifetime reads a duration; an empty text is none.
func lifetime(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return time.ParseDuration(text)
}

func at(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
