// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// unpacked makes a folder as of an unpacked package with openssl as its program, which finds one of its libraries there.
func unpacked(t *testing.T) string {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal(err)
	}
	library, err := find("", "libssl.so.3")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	copyFile := func(from, to string, mode os.FileMode) {
		contents := []byte(from)
		if filepath.IsAbs(from) {
			if contents, err = os.ReadFile(from); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755), os.WriteFile(filepath.Join(root, to), contents, mode)); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(openssl, "usr/bin/openssl", 0o700)
	copyFile(library, "usr/lib/libssl.so.3.0", 0o644)
	copyFile("#!/bin/sh\n", "usr/local/bin/start", 0o755)
	copyFile("settings", "etc/settings", 0o600)
	err = errors.Join(os.Symlink("libssl.so.3.0", filepath.Join(root, "usr/lib/libssl.so.3")), os.Mkdir(filepath.Join(root, "tmp"), 0o777),
		os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestRoot(t *testing.T) {
	spec := Spec{Reference: "certwright/demo:dev", Programs: []string{"/usr/local/bin/start", "/usr/bin/openssl"}, Libraries: true, Root: unpacked(t)}
	contents, err := archive(spec)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(contents)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d, dated %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		found[h.Name] = strings.TrimSpace(fmt.Sprintf("%c %o %s", h.Typeflag, h.Mode, h.Linkname))
	}
	for name, want := range map[string]string{
		"usr/bin/openssl":       "0 755", // as programs must run as anybody
		"usr/local/bin/start":   "0 755",
		"etc/settings":          "0 600",
		"tmp/":                  "5 1777",
		"usr/lib/libssl.so.3":   "2 777 libssl.so.3.0",
		"usr/lib/libssl.so.3.0": "0 644",
	} {
		if found[name] != want {
			t.Errorf("%s: got %q, want %q", name, found[name], want)
		}
	}
	has := func(part string) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(found)), func(name string) bool { return strings.Contains(name, part) })
	}
	if !has("libcrypto.so.3") || !has("ld-linux") {
		t.Error("what is not below the root is not taken from the machine")
	}
	if machine, _ := find("", "libssl.so.3"); found[strings.TrimPrefix(machine, "/")] != "" {
		t.Error("a library below the root is taken from the machine as well")
	}

	img, err := Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config; got.Entrypoint[0] != "/usr/local/bin/start" || got.Env[0] != "PATH=/usr/local/bin:/usr/bin" {
		t.Errorf("got entrypoint %v and %v", got.Entrypoint, got.Env)
	}
}

func TestRootRefuses(t *testing.T) {
	root := unpacked(t)
	if _, err := archive(Spec{Programs: []string{"/usr/bin/gone"}, Root: root}); err == nil || !strings.Contains(err.Error(), "/usr/bin/gone is not below "+root) {
		t.Errorf("a missing program: got %v", err)
	}
	if _, err := archive(Spec{Programs: []string{"/usr/bin/openssl"}, Root: root}); err == nil || !strings.Contains(err.Error(), "--libraries") {
		t.Errorf("a dynamic program without its libraries: got %v", err)
	}
	if _, err := archive(Spec{Programs: []string{"/usr/bin/openssl"}, Root: filepath.Join(root, "gone")}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no root: got %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := archive(Spec{Programs: []string{"/usr/bin/openssl"}, Libraries: true, Root: root}); err == nil || !strings.Contains(err.Error(), "neither a file nor a folder") {
		t.Errorf("a pipe: got %v", err)
	}
}
