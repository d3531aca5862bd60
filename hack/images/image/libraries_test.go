// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// TestLibraries: a dynamic program starts from nothing but what its image holds.
func TestLibraries(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(Spec{Reference: "certwright/demo:dev", Programs: []string{openssl}}, filepath.Join(t.TempDir(), "no.tar")); err == nil || !strings.Contains(err.Error(), "--libraries") {
		t.Errorf("without its libraries: %v, want a refusal that tells what to do", err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := Write(Spec{Reference: "certwright/demo:dev", Programs: []string{openssl}, Libraries: true}, path); err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	root := t.TempDir()
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", root)
	unpack.Stdin = layer
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	loaders, err := filepath.Glob(filepath.Join(root, "lib*", "ld-linux*"))
	if err != nil || len(loaders) != 1 {
		t.Fatalf("loaders: %v, %v", loaders, err)
	}
	folders, err := filepath.Glob(filepath.Join(root, "*", "*-linux-gnu"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(root, "usr", "lib", "*-linux-gnu"))
	if err != nil {
		t.Fatal(err)
	}
	// The loader is told to look nowhere else, and lists what it takes.
	list := exec.CommandContext(t.Context(), loaders[0], "--inhibit-cache", "--library-path", strings.Join(append(folders, more...), ":"), "--list", filepath.Join(root, "openssl"))
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "=>") && !strings.Contains(line, root) {
			t.Errorf("taken from the machine: %s", line)
		}
	}
	if !slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool { return strings.Contains(line, "libcrypto") }) {
		t.Errorf("libcrypto is not listed: %s", out)
	}
}

func TestLibraryThatIsNotThere(t *testing.T) {
	if _, err := find("", "libnone.so.0"); err == nil || !strings.Contains(err.Error(), "install the package") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}

// TestLibraryThatIsLoadedByItsPath: a library among the programs is found where it was.
func TestLibraryThatIsLoadedByItsPath(t *testing.T) {
	crypto, err := find("", "libcrypto.so.3")
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(t.TempDir(), "module.so")
	if err := os.Symlink(crypto, module); err != nil {
		t.Fatal(err)
	}
	contents, err := archive(Spec{Programs: []string{compile(t, "program"), module}, Libraries: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, bytes.NewReader(contents), 0o755); !slices.Contains(got, "program") || !slices.Contains(got, strings.TrimPrefix(module, "/")) {
		t.Errorf("files in the layer: %v, want the program and %s", got, module)
	}
}
