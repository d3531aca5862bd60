// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

const (
	// socketMode lets the agent's group connect, which is that of the pod's
	// containers: whoever can read the key's file can ask for the key here.
	socketMode fs.FileMode = 0o660
	// maxSocketPath is what fits sockaddr_un (unix(7)), with the ending that the socket is made with.
	maxSocketPath = 107 - len(newSocket)
	newSocket     = ".new"
)

// socket is a listening Unix socket that is removed when it is closed.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// listen makes the socket under another name and moves it to its path when it has
// its group and mode, in place of one that an earlier process left.
func listen(ctx context.Context, path string) (*socket, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %q has %d bytes, at most %d are allowed", path, len(path), maxSocketPath)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("making socket: %s exists and is no socket: remove it, or choose another path", path)
	}
	temporary := path + newSocket
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making socket: %w", err)
	}
	config := net.ListenConfig{Control: closed}
	listener, err := config.Listen(ctx, "unix", temporary)
	if err != nil {
		return nil, fmt.Errorf("making socket: its directory must exist and be writable by user %d: %w", os.Getuid(), err)
	}
	s := &socket{UnixListener: listener.(*net.UnixListener), path: path}
	s.SetUnlinkOnClose(false)
	if err := s.show(temporary); err != nil {
		return nil, errors.Join(fmt.Errorf("making socket: %w", err), listener.Close(), os.Remove(temporary))
	}
	return s, nil
}

// closed has nobody connect to the socket until show has set its mode, whatever the umask.
func closed(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(descriptor uintptr) { err = syscall.Fchmod(int(descriptor), 0) }); failed != nil {
		return failed
	}
	return err
}

func (s *socket) show(temporary string) (err error) {
	if err := os.Lchown(temporary, -1, os.Getegid()); err != nil {
		return err
	}
	if err := os.Chmod(temporary, socketMode); err != nil {
		return err
	}
	if s.made, err = os.Lstat(temporary); err != nil {
		return err
	}
	return os.Rename(temporary, s.path)
}

// Close stops listening and removes the socket, unless another process has put its own there.
func (s *socket) Close() error {
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.made) {
		_ = os.Remove(s.path) // what cannot be removed, the next process replaces
	}
	return s.UnixListener.Close()
}
