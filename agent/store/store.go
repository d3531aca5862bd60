// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names in the directory. Those that start with two dots are out of the way of
// programs that list it, as in the volumes that the kubelet projects.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	newLink     = "..link_tmp"
	generation  = "..20060102T150405." // layout; a random suffix follows

	dirMode     = 0o750
	fileMode    = 0o640
	privateMode = 0o600
	// maxFileBytes is the most that is read of one file.
	maxFileBytes = 32 << 20
)

// Store is a directory with generations of files: they live in a directory per
// generation, the link ..data points to the one that counts and is replaced by
// rename, and what programs read are links through ..data. A file whose name
// starts with a dot has no such link.
//
// A program that reads several files should resolve ..data once and read below
// it, or read again when key and certificate do not match.
type Store struct {
	dir     string
	private []string
	mu      sync.Mutex // guards the status file
}

// New returns a Store in the directory, which must exist when it is used. The
// private files are for the process's own user alone, the others for its group too.
func New(dir string, private ...string) *Store { return &Store{dir: dir, private: private} }

// Generation returns the name of what the directory shows now, or "".
func (s *Store) Generation() string {
	target, err := os.Readlink(s.path(dataLink))
	if err != nil {
		return ""
	}
	return target
}

// Load reads the current files, all of one generation. The error wraps
// fs.ErrNotExist when there is none yet.
func (s *Store) Load() (map[string][]byte, error) {
	for {
		target, err := os.Readlink(s.path(dataLink))
		if err != nil {
			return nil, fmt.Errorf("looking for files: %w", err)
		}
		files, err := s.load(target)
		if errors.Is(err, fs.ErrNotExist) {
			if now, again := os.Readlink(s.path(dataLink)); again == nil && now != target {
				continue // replaced while reading
			}
		}
		return files, err
	}
}

func (s *Store) load(generation string) (map[string][]byte, error) {
	entries, err := os.ReadDir(s.path(generation))
	if err != nil {
		return nil, fmt.Errorf("reading files: %w", err)
	}
	files := make(map[string][]byte)
	for _, entry := range entries {
		if files[entry.Name()], err = readFile(s.path(generation, entry.Name()), maxFileBytes); err != nil {
			return nil, fmt.Errorf("reading files: %w", err)
		}
	}
	return files, nil
}

// Write makes the files the contents of the directory: others vanish. When it
// returns an error, the directory still shows what it showed before, or already
// shows these files.
func (s *Store) Write(files map[string][]byte, now time.Time) error {
	for _, step := range s.steps(files, now) {
		if err := step(); err != nil {
			return fmt.Errorf("writing files: %w", err)
		}
	}
	return nil
}

// steps are the single operations of Write. Readers see a change only by the
// rename of ..data; the process may die between any two steps.
func (s *Store) steps(files map[string][]byte, now time.Time) []func() error {
	var dir string
	steps := []func() error{
		s.clean,
		func() (err error) { dir, err = os.MkdirTemp(s.dir, now.UTC().Format(generation)); return err },
		func() error { return own(dir, dirMode) },
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		mode := fs.FileMode(fileMode)
		if slices.Contains(s.private, name) {
			mode = privateMode
		}
		steps = append(steps, func() error { return writeFile(filepath.Join(dir, name), files[name], mode) })
	}
	// The visible links come first: on the first write they lead nowhere until
	// ..data appears, and then all of them lead somewhere at once.
	for _, name := range names {
		if !strings.HasPrefix(name, ".") {
			steps = append(steps, func() error { return s.link(filepath.Join(dataLink, name), newLink, name) })
		}
	}
	return append(steps,
		func() error { return s.link(filepath.Base(dir), newDataLink, dataLink) },
		s.clean,
	)
}

// link makes name a symbolic link to target, atomically, by way of a temporary name.
func (s *Store) link(target, temporary, name string) error {
	if existing, err := os.Readlink(s.path(name)); err == nil && existing == target {
		return nil
	}
	if err := os.Symlink(target, s.path(temporary)); err != nil {
		return err
	}
	return os.Rename(s.path(temporary), s.path(name))
}

// clean removes what a write that was cut short left behind, generations that
// ..data does not point to, and links through ..data that lead nowhere.
func (s *Store) clean() error {
	current, err := os.Readlink(s.path(dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if name := entry.Name(); s.stale(entry, current) {
			if err := os.RemoveAll(s.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) stale(entry fs.DirEntry, current string) bool {
	name := entry.Name()
	if name == newDataLink || name == newLink || entry.IsDir() && strings.HasPrefix(name, "..2") && name != current {
		return true
	}
	if target, err := os.Readlink(s.path(name)); err != nil || target != filepath.Join(dataLink, name) {
		return false
	}
	_, err := os.Stat(s.path(name))
	return errors.Is(err, fs.ErrNotExist)
}

func (s *Store) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}
