// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// listed is what go list says about a package.
type listed struct {
	ImportPath string
	Name       string
	Dir        string
	Export     string
	GoFiles    []string
	DepOnly    bool
}

// relative is the folder of the package as the user names it, such as csr; the whole path where it is not below root.
func (p listed) relative(root string) string {
	relative, err := filepath.Rel(root, p.Dir)
	if err != nil {
		return p.Dir
	}
	return filepath.ToSlash(relative)
}

// list returns the packages and all that they import.
func list(ctx context.Context, root string, packages []string) ([]listed, error) {
	out, err := command(ctx, root, "go", append([]string{"list", "-e=false", "-export", "-deps", "-json=ImportPath,Name,Dir,Export,GoFiles,DepOnly"}, packages...)...)
	if err != nil {
		return nil, err
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("reading the answer of go list: %w", err)
		}
		all = append(all, p)
	}
}

// build compiles the tests of a package with all its mutants into a program in dir. The tree stays as it is: the changed
// files lie in dir, and the compiler is told to read them instead.
func build(ctx context.Context, root, dir string, p listed, exports map[string]string) (string, []mutant, error) {
	fset := token.NewFileSet()
	var files []*ast.File
	var sources [][]byte
	for _, name := range p.GoFiles {
		source, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return "", nil, err
		}
		file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
		if err != nil {
			return "", nil, err
		}
		files, sources = append(files, file), append(sources, source)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	if _, err := (&types.Config{Importer: importer.ForCompiler(fset, "gc", lookup)}).Check(p.ImportPath, fset, files, info); err != nil {
		return "", nil, fmt.Errorf("checking the types of %s: %w", p.ImportPath, err)
	}

	overlay := struct{ Replace map[string]string }{map[string]string{}}
	put := func(name string, content []byte) error {
		changed := filepath.Join(dir, name)
		overlay.Replace[filepath.Join(p.Dir, name)] = changed
		return os.WriteFile(changed, content, 0o600)
	}
	var mutants []mutant
	next := 1
	for i, name := range p.GoFiles {
		r := rewriter{fset: fset, info: info, name: path.Join(p.relative(root), name), src: sources[i], next: &next}
		if err := put(name, r.rewrite(files[i])); err != nil {
			return "", nil, err
		}
		mutants = append(mutants, r.mutants...)
	}
	if err := put("mutant_switch.go", fmt.Appendf(nil, switchCode, p.Name)); err != nil {
		return "", nil, err
	}
	replace, err := json.Marshal(overlay)
	if err != nil {
		return "", nil, err
	}
	file, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "tests")
	if err := os.WriteFile(file, replace, 0o600); err != nil {
		return "", nil, err
	}
	_, err = command(ctx, p.Dir, "go", "test", "-c", "-vet=off", "-overlay", file, "-o", program, ".")
	return program, mutants, err
}

// command returns what a command writes, or an error with what it complains about.
func command(ctx context.Context, dir, name string, arguments ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, arguments...)
	c.Dir = dir
	var complaint strings.Builder
	c.Stderr = &complaint
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", c, err, out, complaint.String())
	}
	return out, nil
}
