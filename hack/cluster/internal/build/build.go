// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package build compiles the programs of the cluster from Go modules and keeps them in a cache.
//
// The modules are folders of this repository that pin every version. A program is built once for each content of its
// module: changing go.mod, go.sum, a source file or the version of Go builds it anew, beside the old one.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Program is a Go program that can be built.
type Program struct {
	// Name is what the file is called.
	Name string
	// Package is its import path, or its path relative to the module's folder.
	Package string
	// Version is shown while building; it may be empty.
	Version string
}

// Module is a set of programs that are built from one Go module.
type Module struct {
	// Name tells the module from others in the cache.
	Name string
	// Dir is the module's folder, or a folder within one.
	Dir      string
	Programs []Program
	// Variables are set when linking, by import path and name.
	Variables map[string]string
	// Change, if any, is made to a dependency for these programs only.
	Change *Change
}

// Builder builds modules into a cache.
type Builder struct {
	// Cache is the folder that holds what was built.
	Cache string
	// Progress is told what is being built.
	Progress io.Writer
}

// Build builds what the cache lacks of a module and returns the folder that holds its programs.
func (b Builder) Build(ctx context.Context, module Module) (string, error) {
	key, err := module.key(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Cache, module.Name+"-"+key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache of built programs: %w", err)
	}
	for _, program := range module.Programs {
		path := filepath.Join(dir, program.Name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		title := strings.TrimSpace(program.Name + " " + program.Version)
		fmt.Fprintf(b.Progress, "building %s ... ", title)
		start := time.Now()
		if err := module.compile(ctx, program, path); err != nil {
			fmt.Fprintln(b.Progress)
			return "", fmt.Errorf("building %s: %w", title, err)
		}
		fmt.Fprintf(b.Progress, "%.0f s\n", time.Since(start).Seconds())
	}
	return dir, nil
}

// compile builds one program. It appears under its path when it is whole, and not before.
func (m Module) compile(ctx context.Context, program Program, path string) error {
	temporary, err := os.MkdirTemp(filepath.Dir(path), ".building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	out := filepath.Join(temporary, program.Name)
	arguments := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", m.linkerFlags(), "-o", out}
	if m.Change != nil {
		modfile, err := m.Change.make(ctx, m.Dir, temporary)
		if err != nil {
			return err
		}
		arguments = append(arguments, "-modfile", modfile)
	}
	cmd := exec.CommandContext(ctx, "go", append(arguments, program.Package)...)
	cmd.Dir = m.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-mod=readonly", "GOWORK=off")
	// Asked to end rather than killed, so that the compilers it started end with it.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%w in %s:\n%s", err, m.Dir, strings.TrimSpace(string(output)))
	}
	return os.Rename(out, path)
}

// linkerFlags strips symbols, which halves the size, and sets the module's variables.
func (m Module) linkerFlags() string {
	flags := []string{"-s", "-w"}
	for _, name := range sortedKeys(m.Variables) {
		flags = append(flags, "-X", name+"="+m.Variables[name])
	}
	return strings.Join(flags, " ")
}

// key returns a short hash of all that decides what the built programs are.
func (m Module) key(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOARCH", "GOEXPERIMENT")
	cmd.Dir = m.Dir
	toolchain, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("the go command is not in PATH: install Go 1.26 or newer, see https://go.dev/dl (under sudo, pass your PATH: sudo env PATH=\"$PATH\" ...)")
	}
	if err != nil {
		return "", fmt.Errorf("asking go for its version: %w", err)
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%s\n", toolchain, m.linkerFlags())
	if m.Change != nil {
		fmt.Fprintf(hash, "%+v\n", *m.Change)
	}
	if err := hashSources(hash, m.Dir); err != nil {
		return "", fmt.Errorf("reading the sources of %s: %w", m.Name, err)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// hashSources adds the Go files and module files below dir, with their names, in order.
func hashSources(hash io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		base := entry.Name()
		if base != "go.mod" && base != "go.sum" && (!strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go")) {
			return nil
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		contents, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %d\n", relative, len(contents))
		_, err = hash.Write(contents)
		return err
	})
}
