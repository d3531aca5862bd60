// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Files of the agent itself, outside the generations.
const (
	statusFile   = "..status"
	pendingFile  = "..pending"
	reloadedFile = "..reloaded"
	temporary    = "_tmp" // what their names end in while they are written

	// maxPrivateBytes is the most that is read of the agent's own files.
	maxPrivateBytes = 64 << 10
)

// SetStatus leaves a sentence for the health check, which shows it to people by
// way of the startup probe; an empty one removes it.
func (s *Store) SetStatus(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set(statusFile, []byte(text), fileMode)
}

// Status returns the sentence that SetStatus left, or "".
func (s *Store) Status() string {
	text, err := readFile(s.path(statusFile), maxPrivateBytes)
	if err != nil {
		return ""
	}
	return string(text)
}

// SetPending keeps what is to survive a restart while a request is open. It holds
// a private key: nobody else may read it. Nil removes it.
func (s *Store) SetPending(data []byte) error { return s.set(pendingFile, data, privateMode) }

// Pending returns what SetPending left, or nil. A file that the process does not
// own or that others may read or write is an error: somebody else put it there.
func (s *Store) Pending() ([]byte, error) {
	name := s.path(pendingFile)
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the pending request: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the pending request: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if !info.Mode().IsRegular() || info.Mode().Perm() != privateMode || int64(owner) != int64(os.Geteuid()) {
		return nil, fmt.Errorf("reading the pending request: %s has mode %s and belongs to user %d; only a file of mode %#o of user %d is the agent's own",
			pendingFile, info.Mode(), owner, privateMode, os.Geteuid())
	}
	return readAll(f, maxPrivateBytes)
}

// SetReloaded remembers the generation that the application was told of.
func (s *Store) SetReloaded(generation string) error {
	return s.set(reloadedFile, []byte(generation), privateMode)
}

// Reloaded returns what SetReloaded left, or "".
func (s *Store) Reloaded() string {
	text, err := readFile(s.path(reloadedFile), maxPrivateBytes)
	if err != nil {
		return ""
	}
	return string(text)
}

// set replaces a file of the agent, or removes it when data is empty.
func (s *Store) set(name string, data []byte, mode fs.FileMode) error {
	if len(data) == 0 {
		if err := os.RemoveAll(s.path(name)); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
		return nil
	}
	// Whoever made a file under the temporary name could still hold it open; a directory could not be replaced.
	inTheWay := []string{name + temporary}
	if info, err := os.Lstat(s.path(name)); err == nil && info.IsDir() {
		inTheWay = append(inTheWay, name)
	}
	for _, name := range inTheWay {
		if err := os.RemoveAll(s.path(name)); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	if err := writeFile(s.path(name+temporary), data, mode); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := os.Rename(s.path(name+temporary), s.path(name)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// writeFile makes a new file. It never writes to one that is there.
func writeFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Close(), own(name, mode))
}

// own gives the file to the process's primary group, which a set-group-ID
// directory would not, and its mode, whatever the umask.
func own(name string, mode fs.FileMode) error {
	if err := os.Lchown(name, -1, os.Getegid()); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, most)
}

func readAll(f *os.File, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes, which is the most that is read", f.Name(), most)
	}
	return data, nil
}
