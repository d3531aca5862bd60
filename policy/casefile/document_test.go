// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadFindsDocumentsAndLines(t *testing.T) {
	t.Parallel()
	documents, err := Read("f.yaml", []byte(`# a comment
---
kind: A
spec:
  list:
  - one
  - name: two
    labels: {example.com/team: shop}
--- # only a comment follows
# nothing
---
kind: B
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(documents) != 2 {
		t.Fatalf("got %d documents, want 2", len(documents))
	}
	for path, want := range map[string]int{
		"": 3, "kind": 3, "spec": 4, "spec.list": 5, "spec.list[0]": 6, "spec.list[1].name": 7,
		"spec.list[1].labels[example.com/team]": 8, "spec.list[1].missing.deeper": 7, "spec.list[7]": 5, "other": 3, "spec.list[x]": 5,
	} {
		if got := documents[0].Line(path); got != want {
			t.Errorf("line of %q: got %d, want %d", path, got, want)
		}
	}
	if got := documents[1].Line("kind"); got != 12 {
		t.Errorf("line of kind in the second document: got %d, want 12", got)
	}
	if _, kind := documents[1].Kind(); kind != "B" {
		t.Errorf("kind: got %q, want B", kind)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"a tab":                         {"kind: A\n---\nspec:\n\tx: 1\n", "f.yaml:4: found character that cannot start any token"},
		"a key twice":                   {"kind: A\n---\na: 1\nb: 2\na: 3\n", `f.yaml:5: key "a" already set in map`},
		"an alias that leads nowhere":   {"a: *nowhere\n", "f.yaml:1: unknown anchor 'nowhere' referenced"},
		"problems in several documents": {"a: 1\na: 2\n---\nb: [\n", "f.yaml:2: key \"a\" already set in map\nf.yaml:4: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			documents, err := Read("f.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %d documents and error %v, want %q", len(documents), err, tc.want)
			}
		})
	}
	if _, err := Read("f.yaml", make([]byte, maxFileBytes+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge file: got %v", err)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	type inner struct {
		Names []string `json:"names"`
		Size  int      `json:"size"`
	}
	type outer struct {
		Inner inner `json:"inner"`
	}
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":            {"inner:\n  names: [a]\n  nicks: [b]\n", "f.yaml:3: inner.nicks: no such field"},
		"field in another case":    {"inner:\n  Names: [a]\n", "f.yaml:2: inner.Names: no such field"},
		"text for a list":          {"inner:\n  names: a\n", "f.yaml:2: inner.names: is text; it must be a list"},
		"text for a number":        {"inner:\n  size: big\n", "f.yaml:2: inner.size: is text; it must be a number"},
		"list for a mapping":       {"\n\ninner: []\n", "f.yaml:3: inner: is a list; it must be a mapping"},
		"several unknown at once":  {"x: 1\nz: 2\n", "f.yaml:1: x: no such field: look for a slip of the pen, or for a wrong indentation\nf.yaml:2: z: "},
		"what is allowed":          {"inner: {names: [a], size: 3}\n", ""},
		"fields that are left out": {"inner: {}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			documents, err := Read("f.yaml", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			var into outer
			err = documents[0].Decode(&into)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestReadPathReadsDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"b.yaml": "kind: B", "a/a.yml": "kind: A", "c.json": `{"kind": "C"}`, "notes.txt": ":"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	documents, err := ReadPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, d := range documents {
		_, kind := d.Kind()
		kinds = append(kinds, kind)
	}
	if want := []string{"A", "B", "C"}; !slices.Equal(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
	if _, err := ReadPath(filepath.Join(dir, "missing")); err == nil {
		t.Error("a path that does not exist: got no error")
	}
}
