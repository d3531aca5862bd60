// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs holds the guides, and here the tests that keep them true.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	link     = regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
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

// TestLinksLeadSomewhere follows the links from guide to guide, to their headings, and to files of the repository.
func TestLinksLeadSomewhere(t *testing.T) {
	guides := []string{"../README.md"}
	for _, pattern := range []string{"*.md", "adr/*.md", "backends/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no guides found by %s: %v", pattern, err)
		}
		guides = append(guides, found...)
	}
	for _, guide := range guides {
		for _, to := range link.FindAllStringSubmatch(read(t, guide), -1) {
			target := filepath.Join(filepath.Dir(guide), to[1])
			if to[1] == "" {
				target = guide
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", guide, to[1])
			} else if to[2] != "" && !slices.Contains(headings(read(t, target)), to[2]) {
				t.Errorf("%s: %s has no heading #%s", guide, target, to[2])
			}
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	spoken  = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// headings are what the headings of a page are called in links.
func headings(text string) (all []string) {
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(spoken.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return all
}
