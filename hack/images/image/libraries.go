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
)

// loaderFolders are where a program's loader looks for shared libraries, by itself and on Debian.
var loaderFolders = []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/*-linux-gnu", "/usr/lib/*-linux-gnu"}

// libraries returns the paths of the loaders of these programs, and of the shared libraries that they and their libraries
// need, where they are on this machine. Those that are below root are not among them.
func libraries(root string, programs []string) ([]string, error) {
	found, below := map[string]bool{}, map[string]bool{}
	for queue := slices.Clone(programs); len(queue) > 0; queue = queue[1:] {
		loader, needed, err := needs(queue[0])
		if err != nil {
			return nil, fmt.Errorf("reading what %s needs: %w", queue[0], err)
		}
		if loader != "" {
			found[loader] = true
		}
		for _, library := range needed {
			if path, err := find(root, library); root != "" && err == nil {
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

// needs reads the loader that a program asks for, if any, and the names of the libraries that it is linked with.
func needs(path string) (loader string, libraries []string, err error) {
	file, err := elf.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP {
			text, err := io.ReadAll(header.Open())
			if err != nil {
				return "", nil, err
			}
			loader = string(text[:max(0, len(text)-1)]) // it ends with a zero byte
		}
	}
	libraries, err = file.DynString(elf.DT_NEEDED)
	if errors.Is(err, elf.ErrNoSymbols) {
		err = nil
	}
	return loader, libraries, err
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
