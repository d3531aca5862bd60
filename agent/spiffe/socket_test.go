// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/certwright/certwright/agent/agenttest"
)

// shortDir is as t.TempDir, with a path that is short enough for sockets.
func shortDir(t *testing.T) string {
	dir := agenttest.Must(os.MkdirTemp("", "spiffe"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSocketAppearsWithItsMode(t *testing.T) {
	for _, umask := range []int{0, 0o077} {
		path := filepath.Join(shortDir(t), "agent.sock")
		old := syscall.Umask(umask)
		s, err := listen(t.Context(), path)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		info := agenttest.Must(os.Lstat(path))(t)
		if got := info.Mode(); got != fs.ModeSocket|0o660 {
			t.Errorf("umask %o: mode %v", umask, got)
		}
		if got := info.Sys().(*syscall.Stat_t).Gid; int(got) != os.Getegid() {
			t.Errorf("group %d", got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left := agenttest.Must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestNobodyConnectsBeforeTheModeIsSet(t *testing.T) {
	path := filepath.Join(shortDir(t), "agent.sock")
	defer syscall.Umask(syscall.Umask(0))
	config := net.ListenConfig{Control: closed}
	listener := agenttest.Must(config.Listen(t.Context(), "unix", path))(t)
	defer listener.Close()
	if got := agenttest.Must(os.Lstat(path))(t).Mode(); got != fs.ModeSocket {
		t.Errorf("mode %v", got)
	}
}

func TestSocketReplacesWhatAnEarlierProcessLeft(t *testing.T) {
	path := filepath.Join(shortDir(t), "agent.sock")
	for _, left := range []string{path, path + newSocket} {
		stale := agenttest.Must(net.ListenUnix("unix", &net.UnixAddr{Name: left}))(t)
		stale.SetUnlinkOnClose(false)
		_ = stale.Close()
	}
	first := agenttest.Must(listen(t.Context(), path))(t)
	second := agenttest.Must(listen(t.Context(), path))(t)
	if err := first.Close(); err != nil { // it is not its own any more
		t.Error(err)
	}
	connection := agenttest.Must(net.Dial("unix", path))(t)
	_ = connection.Close()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestSocketThatCannotBeMade(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ path, want string }{
		"a file is there": {file, "is no socket"},
		"no directory":    {filepath.Join(dir, "none", "s"), "must exist and be writable"},
		"too long":        {filepath.Join(dir, strings.Repeat("x", 100)), "at most 103"},
	} {
		t.Run(name, func(t *testing.T) {
			err := New(test.path, slog.New(slog.DiscardHandler)).Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if text := agenttest.Must(os.ReadFile(file))(t); string(text) != "precious" {
		t.Errorf("the file holds %q", text)
	}
}
