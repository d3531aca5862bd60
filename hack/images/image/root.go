// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// entry is one thing in an image.
type entry struct {
	// source is the file on this machine that it is made of; empty for folders and links.
	source string
	// target is what a symbolic link leads to.
	target string
	mode   fs.FileMode
	// program says that it is one, or a library, which must be able to start.
	program bool
}

// rootEntries returns all that is below the root folder of a Spec, by where it lands.
func rootEntries(root string) (map[string]entry, error) {
	entries := map[string]entry{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{mode: info.Mode()}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if e.target, err = os.Readlink(path); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			e.source = path
		case !info.IsDir():
			return fmt.Errorf("%s is neither a file nor a folder nor a symbolic link", path)
		}
		entries[name] = e
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the files of the image: %w", err)
	}
	return entries, nil
}

// isELF tells whether a file is a program in the machine's own language, and not a script.
func isELF(path string) bool {
	file, err := elf.Open(path)
	if err != nil {
		return false
	}
	_ = file.Close() // Nothing was written.
	return true
}

// header describes an entry in the archive: owned by root and dated at the epoch, with its own permissions.
func (e entry) header(name string, size int64) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(e.mode.Perm()), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case e.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if e.mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
	case e.target != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.target, 0o777
	}
	return h
}
