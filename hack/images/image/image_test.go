// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// compile builds a tiny program called base.
func compile(t *testing.T, base string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, base)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return program
}

func TestWriteIsReproducibleAndReadable(t *testing.T) {
	second, first := compile(t, "beta"), compile(t, "alpha")
	spec := Spec{Reference: "certwright/demo:dev", Programs: []string{second, first}}
	paths := []string{filepath.Join(t.TempDir(), "one.tar"), filepath.Join(t.TempDir(), "two.tar")}
	var contents []string
	for _, path := range paths {
		if err := Write(spec, path); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, string(raw))
		// The programs' own dates must not show.
		now := time.Now().Add(time.Hour)
		if err := errors.Join(os.Chtimes(first, now, now), os.Chtimes(second, now, now)); err != nil {
			t.Fatal(err)
		}
	}
	if contents[0] != contents[1] {
		t.Error("the same programs gave two different images")
	}

	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(paths[0]) })
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || len(manifest[0].RepoTags) != 1 || manifest[0].RepoTags[0] != "certwright/demo:dev" {
		t.Errorf("names in the file: %+v", manifest)
	}
	img, err := tarball.ImageFromPath(paths[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config.User; got != "65532:65532" {
		t.Errorf("user: %q", got)
	}
	if got := strings.Join(config.Config.Entrypoint, " "); got != "/beta" {
		t.Errorf("entrypoint: %q, want the first program given", got)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers: %v, %v", layers, err)
	}
	layer, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	if got := strings.Join(names(t, layer, 0o111), " "); got != "alpha beta" {
		t.Errorf("files in the layer: %s", got)
	}
}

// names lists the files of a tar archive, which must all be programs of root, of this mode.
func names(t *testing.T, r io.Reader, mode int64) []string {
	t.Helper()
	var names []string
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Mode != mode || header.Uid != 0 || header.Gid != 0 || header.ModTime.Unix() != 0 {
			t.Errorf("%s: mode %o, owner %d:%d, dated %v", header.Name, header.Mode, header.Uid, header.Gid, header.ModTime)
		}
		names = append(names, header.Name)
	}
}

// size returns that of a file.
func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// An image is written when something in it is new, or when what is there is no image; else its file stays.
func TestWriteOnlyWhatIsNew(t *testing.T) {
	first, second := compile(t, "first"), compile(t, "second")
	path := filepath.Join(t.TempDir(), "image.tar")
	written := func(reference string, programs ...string) bool {
		t.Helper()
		before, err := os.Stat(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := Write(Spec{Reference: reference, Programs: programs}, path); err != nil {
			t.Fatal(err)
		}
		after, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return before == nil || !os.SameFile(before, after)
	}
	for _, step := range []struct {
		what      string
		change    func() error
		reference string
		programs  []string
		want      bool
	}{
		{"the first time", nil, "certwright/demo:dev", []string{first, second}, true},
		{"again", nil, "certwright/demo:dev", []string{first, second}, false},
		{"another name", nil, "certwright/demo:new", []string{first, second}, true},
		{"another entrypoint", nil, "certwright/demo:new", []string{second, first}, true},
		{"a program less", nil, "certwright/demo:new", []string{second}, true},
		{"the program as it was, built anew", func() error { return os.Rename(compile(t, "second"), second) }, "certwright/demo:new", []string{second}, false},
		{"a program that has changed", func() error { return os.Truncate(second, size(t, second)+1) }, "certwright/demo:new", []string{second}, true},
		{"half an image", func() error { return os.Truncate(path, 100) }, "certwright/demo:new", []string{second}, true},
	} {
		if step.change != nil {
			if err := step.change(); err != nil {
				t.Fatal(err)
			}
		}
		if got := written(step.reference, step.programs...); got != step.want {
			t.Errorf("%s: written: %t, want %t", step.what, got, step.want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	program := compile(t, "program")
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spec Spec
		want string
	}{
		"no tag":          {Spec{Reference: "certwright/demo", Programs: []string{program}}, "has no tag"},
		"malformed name":  {Spec{Reference: "Certwright:dev", Programs: []string{program}}, `image name "Certwright:dev"`},
		"no program":      {Spec{Reference: "certwright/demo:dev"}, "at least one program"},
		"missing program": {Spec{Reference: "certwright/demo:dev", Programs: []string{program + ".gone"}}, "no such file"},
		"script":          {Spec{Reference: "certwright/demo:dev", Programs: []string{script}}, "not a Linux program"},
		"same name twice": {Spec{Reference: "certwright/demo:dev", Programs: []string{program, program}}, "two programs"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image.tar")
			err := Write(test.spec, path)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
			if left, _ := filepath.Glob(path + "*"); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
