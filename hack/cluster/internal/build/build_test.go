// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// write makes files with their folders below a new folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, contents := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildOncePerContent(t *testing.T) {
	const source = "package main\n\nvar greeting = \"unset\"\n\nfunc main() { println(greeting) }\n"
	dir := write(t, map[string]string{"go.mod": "module example.com/hello\n\ngo 1.26.0\n", "main.go": source})
	module := Module{
		Name: "hello", Dir: dir, Programs: []Program{{Name: "hello", Package: ".", Version: "1.0"}},
		Variables: map[string]string{"main.greeting": "hi"},
	}
	var progress strings.Builder
	builder := Builder{Cache: t.TempDir(), Progress: &progress}

	first, err := builder.Build(context.Background(), module)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(first, "hello")).CombinedOutput(); err != nil || string(out) != "hi\n" {
		t.Errorf("the program says %q, %v", out, err)
	}
	if !strings.HasPrefix(progress.String(), "building hello 1.0 ... ") {
		t.Errorf("progress: %q", progress.String())
	}

	progress.Reset()
	again, err := builder.Build(context.Background(), module)
	if err != nil || again != first || progress.Len() != 0 {
		t.Errorf("built again: %q, %v, %q", again, err, progress.String())
	}

	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source+"\nvar _ = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, err := builder.Build(context.Background(), module); err != nil || changed == first {
		t.Errorf("changed sources: %q, %v", changed, err)
	}
}

func TestBuildWithAChange(t *testing.T) {
	// This module's own go.mod and go.sum know a dependency that is to be had.
	files := map[string]string{"main.go": "package main\n\nimport \"golang.org/x/sys/execabs\"\n\nfunc main() { println(execabs.ErrNotFound.Error()) }\n"}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	dir := write(t, files)
	says := func(change *Change) (string, error) {
		module := Module{Name: "hello", Dir: dir, Programs: []Program{{Name: "hello", Package: "."}}, Change: change}
		built, err := Builder{Cache: t.TempDir(), Progress: &strings.Builder{}}.Build(context.Background(), module)
		if err != nil {
			return "", err
		}
		out, err := exec.Command(filepath.Join(built, "hello")).CombinedOutput()
		return string(out), err
	}
	change := Change{
		Module: "golang.org/x/sys", Folder: "execabs", File: "execabs.go", Old: "var ErrNotFound = exec.ErrNotFound", New: "var ErrNotFound = changed",
		Added: "changed.go", Source: "package execabs\n\nimport \"errors\"\n\nvar changed = errors.New(\"changed\")\n",
	}
	for want, c := range map[string]*Change{"executable file not found in $PATH\n": nil, "changed\n": &change} {
		if got, err := says(c); err != nil || got != want {
			t.Errorf("the program says %q, %v; want %q", got, err, want)
		}
	}
	change.Old = "const"
	if _, err := says(&change); err == nil || !strings.Contains(err.Error(), `execabs/execabs.go of golang.org/x/sys holds "const" 0 times`) {
		t.Errorf("a source that has changed: %v", err)
	}
}

func TestBuildLeavesNothingHalfDone(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/hello\n\ngo 1.26.0\n", "main.go": "package main\n\nfunc main() { oops }\n"})
	module := Module{Name: "hello", Dir: dir, Programs: []Program{{Name: "hello", Package: "."}}}
	cache := t.TempDir()
	_, err := Builder{Cache: cache, Progress: &strings.Builder{}}.Build(context.Background(), module)
	if err == nil || !strings.Contains(err.Error(), "oops") {
		t.Errorf("error %v, want what the compiler said", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "*", "*")); len(left) != 0 {
		t.Errorf("left in the cache: %v", left)
	}
}

// modules returns the folder of the modules that are here.
func modules(t *testing.T) string {
	t.Helper()
	sources, err := Sources(".")
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

func TestKubernetes(t *testing.T) {
	sources := modules(t)
	for _, release := range []string{"1.37", "1.36"} {
		module, err := Kubernetes(sources, release)
		if err != nil {
			t.Fatal(err)
		}
		if len(module.Programs) != 7 || module.Programs[0].Name != "etcd" {
			t.Errorf("%s has the programs %v", module.Name, module.Programs)
		}
		version := module.Programs[len(module.Programs)-1].Version
		if !strings.HasPrefix(version, release+".") {
			t.Errorf("%s is of version %s", module.Name, version)
		}
		if want := "-X k8s.io/component-base/version.gitVersion=v" + version; !strings.HasSuffix(module.linkerFlags(), want) {
			t.Errorf("linker flags %q lack %q", module.linkerFlags(), want)
		}
	}
	if _, err := Kubernetes(sources, "1.9"); err == nil || !strings.Contains(err.Error(), `no Kubernetes release "1.9": choose one of 1.37, 1.36`) {
		t.Errorf("a release that is not there: %v", err)
	}
	for name, requirements := range map[string]string{
		"without Kubernetes": "module m\n", "without etcd": "module m\n\nrequire k8s.io/kubernetes v1.9.1\n",
	} {
		if _, err := Kubernetes(write(t, map[string]string{"kubernetes-1.9/go.mod": requirements}), "1.9"); err == nil {
			t.Errorf("a module %s was taken", name)
		}
	}
}

func TestKubelet(t *testing.T) {
	sources := modules(t)
	for release, folder := range map[string]string{"1.37": "kubernetes-1.37", "1.36": "kubernetes-1.36", "1.35": "kubelet-1.35"} {
		module, err := Kubelet(sources, release)
		if err != nil {
			t.Fatal(err)
		}
		if len(module.Programs) != 1 || module.Programs[0].Name != "kubelet" || !strings.HasPrefix(module.Programs[0].Version, release+".") || module.Name != folder {
			t.Errorf("the kubelet of %s: %+v", release, module)
		}
		withClock, err := KubeletWithClock(sources, release)
		if err != nil || len(withClock.Programs) != 1 || withClock.Programs[0] != module.Programs[0] || withClock.Name == module.Name {
			t.Errorf("the kubelet of %s with a clock: %+v, %v", release, withClock, err)
		}
	}
	if _, err := Kubelet(sources, "1.9"); err == nil || !strings.Contains(err.Error(), `no kubelet of release "1.9": choose one of 1.37, 1.36, 1.35`) {
		t.Errorf("a release that is not there: %v", err)
	}
}

func TestSources(t *testing.T) {
	checkout := write(t, map[string]string{"hack/cluster/coredns/go.mod": "", "deep/below/file": ""})
	want := filepath.Join(checkout, "hack", "cluster")
	elsewhere := t.TempDir()
	for name, starts := range map[string][]string{
		"the root":            {checkout},
		"below it":            {filepath.Join(checkout, "deep", "below")},
		"the folder itself":   {want},
		"the second of two":   {elsewhere, checkout},
		"not there, then yes": {filepath.Join(elsewhere, "gone"), checkout},
	} {
		if got, err := Sources(starts...); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := Sources(elsewhere); err == nil {
		t.Errorf("outside of a checkout: %q", got)
	}
}

func TestCache(t *testing.T) {
	for name, test := range map[string]struct{ xdg, home, want string }{
		"xdg":     {"/x", "/home/a", "/x/certwright"},
		"home":    {"", "/home/a", "/home/a/.cache/certwright"},
		"neither": {"", "", ""},
	} {
		if got, err := Cache(test.xdg, test.home); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
