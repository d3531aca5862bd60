// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs holds the guides, and here the tests that keep them true.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedTest matches how security.md names a test.
var namedTest = regexp.MustCompile("`([a-z0-9]+)[.]((?:Test|Fuzz)[A-Za-z0-9_]+)`")

// TestThreatModelNamesRealTests holds the tests that the threat model names against those that there are.
func TestThreatModelNamesRealTests(t *testing.T) {
	text, err := os.ReadFile("security.md")
	if err != nil {
		t.Fatal(err)
	}
	named := namedTest.FindAllStringSubmatch(string(text), -1)
	if len(named) < 100 {
		t.Fatalf("found only %d tests named: has the form changed?", len(named))
	}
	existing := testsOf(t, "..")
	for _, name := range named {
		if !existing[name[1]+"."+name[2]] {
			t.Errorf("security.md names %s.%s, which does not exist", name[1], name[2])
		}
	}
}

var (
	function = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// testsOf returns the tests below a folder, as "folder.TestName".
func testsOf(t *testing.T, root string) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, f := range function.FindAllStringSubmatch(string(text), -1) {
			tests[filepath.Base(filepath.Dir(path))+"."+f[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// TestLinksLeadSomewhere follows the links from guide to guide and to files of the repository.
func TestLinksLeadSomewhere(t *testing.T) {
	guides, err := filepath.Glob("*.md")
	if err != nil || len(guides) == 0 {
		t.Fatalf("no guides: %v", err)
	}
	decisions, err := filepath.Glob("adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, guide := range append(append(guides, decisions...), "../README.md") {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(guide), to[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", guide, to[1])
			}
		}
	}
}
