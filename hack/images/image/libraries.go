// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// loaderFolders are where a program's loader looks for shared libraries, by itself and on Debian.
var loaderFolders = []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/*-linux-gnu", "/usr/lib/*-linux-gnu"}

// libraries returns the paths of the loaders of these programs, and of the shared libraries that they and their libraries
// need, where they are on this machine. Those that are below root are not among them.
func libraries(root string, programs []string) ([]string, error) {
	found, below := map[string]bool{}, map[string]bool{}
	for queue := slices.Clone(programs); len(queue) > 0; queue = queue[1:] {
		needs, err := read(queue[0])
		if err != nil {
			return nil, fmt.Errorf("reading what %s needs: %w", queue[0], err)
		}
		if needs.loader != "" {
			found[needs.loader] = true
		}
		for _, library := range needs.libraries {
			if path, ok := findBelow(root, library, needs.folders); ok {
				if !below[path] {
					below[path] = true
					queue = append(queue, path)
				}
				continue
			}
			path, err := find("", library)
			if err != nil {
				return nil, fmt.Errorf("%s needs a library: %w", queue[0], err)
			}
			if !found[path] {
				found[path] = true
				queue = append(queue, path)
			}
		}
	}
	var paths []string
	for path := range found {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths, nil
}

// needs is what a program or a library asks the machine for.
type needs struct {
	// loader is the path of the program that loads it, if it asks for one.
	loader string
	// libraries are the names of those that it is linked with.
	libraries []string
	// folders are where it says that they are, relative to its own (DT_RPATH and DT_RUNPATH with $ORIGIN, see ld.so(8)).
	folders []string
}

// read reads what a program or a library needs.
func read(path string) (n needs, err error) {
	file, err := elf.Open(path)
	if err != nil {
		return needs{}, err
	}
	defer file.Close()
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP {
			text, err := io.ReadAll(header.Open())
			if err != nil {
				return needs{}, err
			}
			n.loader = string(text[:max(0, len(text)-1)]) // it ends with a zero byte
		}
	}
	for _, tag := range []elf.DynTag{elf.DT_NEEDED, elf.DT_RPATH, elf.DT_RUNPATH} {
		texts, err := file.DynString(tag)
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			return needs{}, err
		}
		if tag == elf.DT_NEEDED {
			n.libraries = texts
			continue
		}
		for _, text := range texts {
			for _, folder := range filepath.SplitList(text) {
				if beside, ok := strings.CutPrefix(folder, "$ORIGIN"); ok {
					n.folders = append(n.folders, filepath.Join(filepath.Dir(path), beside))
				}
			}
		}
	}
	return n, nil
}

// findBelow returns where a library is below root, if there is one: in the folders that who needs it names, or where the loader looks.
func findBelow(root, library string, folders []string) (string, bool) {
	if root == "" {
		return "", false
	}
	for _, folder := range folders {
		path := filepath.Join(folder, library)
		if _, err := os.Stat(path); err == nil {
			return path, true
		}
	}
	path, err := find(root, library)
	return path, err == nil
}

// find returns where a library is below root; an empty root is that of the machine.
func find(root, library string) (string, error) {
	for _, folder := range loaderFolders {
		paths, err := filepath.Glob(filepath.Join(root+folder, library))
		if err != nil {
			return "", err
		}
		for _, path := range paths {
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s is in none of %q: install the package that has it", library, loaderFolders)
}
