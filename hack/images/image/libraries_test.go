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

// TestLibraryBesideItsProgram: a program may say where its libraries are, as seen from its own folder. They are below the root, and none of
// the machine's.
func TestLibraryBesideItsProgram(t *testing.T) {
	root := t.TempDir()
	build := func(source string, args ...string) {
		t.Helper()
		cc := exec.CommandContext(t.Context(), "cc", append(args, "-x", "c", "-")...)
		cc.Dir, cc.Stdin = root, strings.NewReader(source)
		if out, err := cc.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, folder := range []string{"opt/bin", "opt/lib/deeper"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const deep, beside, main = "int deep(void) { return 7; }", "int deep(void); int beside(void) { return deep(); }", "int beside(void); int main(void) { return beside(); }"
	build(deep, "-shared", "-fPIC", "-o", "opt/lib/deeper/libdeep.so")
	build(beside, "-shared", "-fPIC", "-o", "opt/lib/libbeside.so", "-Wl,-rpath,$ORIGIN/deeper", "-Lopt/lib/deeper", "-Wl,--no-as-needed", "-ldeep")
	build(main, "-o", "opt/bin/program", "-Wl,-rpath,$ORIGIN:$ORIGIN/../lib", "-Lopt/lib", "-Wl,--no-as-needed,--allow-shlib-undefined", "-lbeside")
	paths, err := libraries(root, []string{filepath.Join(root, "opt/bin/program")})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(paths, func(path string) bool { return strings.Contains(path, "libc.so") }) {
		t.Errorf("the machine's libraries are %q, want its libc among them", paths)
	}
	if err := os.Remove(filepath.Join(root, "opt/lib/deeper/libdeep.so")); err != nil {
		t.Fatal(err)
	}
	if _, err := libraries(root, []string{filepath.Join(root, "opt/bin/program")}); err == nil || !strings.Contains(err.Error(), "libdeep.so is in none of") {
		t.Errorf("without a library that a library needs: %v", err)
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
