// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Change is what is different on purpose in a dependency of a program that tests need. The dependency's own files stay as they
// are: the program is built with a copy of them.
type Change struct {
	// Module is the path of the dependency, and Folder the one in it where the change is made.
	Module, Folder string
	// File is where Old, which stands there exactly once, becomes New.
	File, Old, New string
	// Added is the name of a file that there is as well, and Source what is in it.
	Added, Source string
}

// make makes the changed copy below dir, and returns the path of a go.mod there that puts it in the place of the dependency of
// the module in moduleDir.
func (c Change) make(ctx context.Context, moduleDir, dir string) (modfile string, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", c.Module)
	cmd.Dir = moduleDir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	original, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("looking for the sources of %s: %w", c.Module, err)
	}
	changed := filepath.Join(dir, "changed")
	if err := os.CopyFS(changed, os.DirFS(strings.TrimSpace(string(original)))); err != nil {
		return "", fmt.Errorf("copying the sources of %s: %w", c.Module, err)
	}
	file := filepath.Join(changed, c.Folder, c.File)
	source, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), c.Old); n != 1 {
		return "", fmt.Errorf("%s of %s holds %q %d times, want once: it has changed, so the change to it has to", filepath.Join(c.Folder, c.File), c.Module, c.Old, n)
	}
	requirements, err := os.ReadFile(filepath.Join(moduleDir, "go.mod"))
	if err != nil {
		return "", err
	}
	sums, err := os.ReadFile(filepath.Join(moduleDir, "go.sum"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	modfile = filepath.Join(dir, "changed.mod")
	return modfile, errors.Join(
		os.WriteFile(file, []byte(strings.Replace(string(source), c.Old, c.New, 1)), 0o644),
		os.WriteFile(filepath.Join(changed, c.Folder, c.Added), []byte(c.Source), 0o644),
		os.WriteFile(modfile, fmt.Appendf(requirements, "\nreplace %s => %s\n", c.Module, changed), 0o644),
		os.WriteFile(filepath.Join(dir, "changed.sum"), sums, 0o644),
	)
}
