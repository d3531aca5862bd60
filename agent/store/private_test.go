// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/certwright/certwright/agent/agenttest"
)

func TestStatus(t *testing.T) {
	store := New(t.TempDir())
	for _, text := range []string{"", "waits", "waits for more", ""} {
		if err := store.SetStatus(text); err != nil {
			t.Fatal(err)
		}
		if got := store.Status(); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	if left := agenttest.Must(os.ReadDir(store.dir))(t); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestReloaded(t *testing.T) {
	store := New(t.TempDir())
	for _, text := range []string{"", "..2026", "..2027", ""} {
		if err := store.SetReloaded(text); err != nil || store.Reloaded() != text {
			t.Errorf("got %q, error %v, want %q", store.Reloaded(), err, text)
		}
	}
}

func TestPending(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	store := New(t.TempDir())
	if got, err := store.Pending(); got != nil || err != nil {
		t.Errorf("at first: %q, %v", got, err)
	}
	for _, text := range []string{"one", "another"} {
		if err := store.SetPending([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Pending(); string(got) != text || err != nil {
			t.Errorf("got %q, error %v, want %q", got, err, text)
		}
	}
	if mode := agenttest.Must(os.Stat(store.path(pendingFile)))(t).Mode(); mode != 0o600 {
		t.Errorf("mode %v: others could read the key", mode)
	}
	if err := store.SetPending(nil); err != nil {
		t.Fatal(err)
	}
	if left := agenttest.Must(os.ReadDir(store.dir))(t); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

// Whoever else could write to the directory must neither have a request of his
// taken up nor learn the key of ours.
func TestPendingOfOthers(t *testing.T) {
	secret := []byte("secret")
	for name, test := range map[string]struct {
		plant func(store *Store, name string) error
		want  string
	}{
		"others may read it":    {func(_ *Store, name string) error { return os.WriteFile(name, secret, 0o640) }, "has mode -rw-r-----"},
		"others may write it":   {func(_ *Store, name string) error { return os.WriteFile(name, secret, 0o602) }, "has mode -rw-----w-"},
		"of another user":       {plantAs(1234), "belongs to user 1234"},
		"a link":                {func(s *Store, name string) error { return link(s, name) }, "too many levels"},
		"a directory":           {func(_ *Store, name string) error { return os.Mkdir(name, 0o600) }, "has mode d"},
		"a pipe":                {func(_ *Store, name string) error { return syscall.Mkfifo(name, 0o600) }, "has mode p"},
		"more than is ever his": {func(_ *Store, name string) error { return os.WriteFile(name, make([]byte, 1<<20), 0o600) }, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			old := syscall.Umask(0)
			defer syscall.Umask(old)
			store := New(t.TempDir())
			if err := test.plant(store, store.path(pendingFile)); err != nil {
				t.Fatal(err)
			}
			if got, err := store.Pending(); got != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("read %q, error %v, want %q", got, err, test.want)
			}
			// What was planted goes away, and whoever holds it open sees nothing of ours.
			if err := store.SetPending(secret); err != nil {
				t.Fatal(err)
			}
			if got, err := store.Pending(); !bytes.Equal(got, secret) || err != nil {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

// What is planted under the name of the temporary file gets nothing either.
func TestTemporaryOfOthers(t *testing.T) {
	store := New(t.TempDir())
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(elsewhere, store.path(pendingFile+temporary)); err != nil {
		t.Fatal(err)
	}
	if err := store.SetPending([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(elsewhere); !os.IsNotExist(err) {
		t.Errorf("written through a link: %v", err)
	}
}

func plantAs(user int) func(*Store, string) error {
	return func(_ *Store, name string) error {
		if err := os.WriteFile(name, []byte("planted"), 0o600); err != nil {
			return err
		}
		return os.Chown(name, user, -1)
	}
}

// link points to a file that would be the agent's own in every respect.
func link(store *Store, name string) error {
	target := store.path("..elsewhere")
	if err := os.WriteFile(target, []byte("planted"), fs.FileMode(privateMode)); err != nil {
		return err
	}
	return os.Symlink(target, name)
}
