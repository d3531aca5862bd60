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
	"syscall"
	"testing"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
)

// files are those of generation i: each holds its name and the number.
func files(i int, names ...string) map[string][]byte {
	if names == nil {
		names = []string{"tls.crt", "tls.key", "ca.crt", ".hidden"}
	}
	all := make(map[string][]byte)
	for _, name := range names {
		all[name] = fmt.Appendf(nil, "%s %d", name, i)
	}
	return all
}

// consistent fails unless all files are of one generation.
func consistent(got map[string][]byte) error {
	numbers := make(map[string]bool)
	for name, data := range got {
		number, ours := strings.CutPrefix(string(data), name+" ")
		if !ours {
			return fmt.Errorf("%s holds %q", name, data)
		}
		numbers[number] = true
	}
	if len(numbers) != 1 {
		return fmt.Errorf("files of %d generations", len(numbers))
	}
	return nil
}

func visible(t testing.TB, dir string) (names []string) {
	t.Helper()
	for _, entry := range agenttest.Must(os.ReadDir(dir))(t) {
		if !entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	if os.Geteuid() == 0 { // as with a pod's fsGroup: new files would get this group
		if err := os.Chown(dir, -1, 4242); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	store := New(dir, "tls.key")
	if _, err := store.Load(); !errors.Is(err, fs.ErrNotExist) || store.Generation() != "" {
		t.Errorf("empty directory: %v, generation %q", err, store.Generation())
	}
	for i := range 3 {
		if err := store.Write(files(i), time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := agenttest.Must(store.Load())(t); !maps.EqualFunc(got, files(i), slices.Equal) {
			t.Errorf("generation %d: read something else", i)
		}
		if data := agenttest.Must(os.ReadFile(filepath.Join(dir, "tls.crt")))(t); string(data) != fmt.Sprintf("tls.crt %d", i) {
			t.Errorf("as a program reads it: %q", data)
		}
	}
	if got, want := visible(t, dir), []string{"..data", "ca.crt", "tls.crt", "tls.key"}; !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
	generations := agenttest.Must(filepath.Glob(filepath.Join(dir, "..2*")))(t)
	if len(generations) != 1 || filepath.Base(generations[0]) != store.Generation() {
		t.Errorf("generations %q are left, want %q", generations, store.Generation())
	}
	for _, name := range []string{"", "tls.crt", "tls.key", "ca.crt", ".hidden"} {
		info := agenttest.Must(os.Stat(filepath.Join(generations[0], name)))(t)
		want := fs.FileMode(fileMode)
		switch name {
		case "":
			want = dirMode
		case "tls.key":
			want = privateMode
		}
		stat := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != want || int(stat.Gid) != os.Getegid() {
			t.Errorf("%q: mode %v, group %d; want %v, %d", name, info.Mode(), stat.Gid, want, os.Getegid())
		}
	}
	if target := agenttest.Must(os.Readlink(filepath.Join(dir, "tls.key")))(t); target != "..data/tls.key" {
		t.Errorf("tls.key leads to %q", target)
	}
}

func TestFilesComeAndVanish(t *testing.T) {
	store := New(t.TempDir())
	own := filepath.Join(store.dir, "somebody's")
	if err := os.Symlink("..data/else", own); err != nil { // not a link that Write makes
		t.Fatal(err)
	}
	for i, names := range [][]string{
		{"ca.crt"},
		{"ca.crt", "tls.crt", "keystore.p12"},
		{"ca.crt", "tls.crt"},
		{"tls.crt", "truststore.jks"},
	} {
		if err := store.Write(files(i, names...), time.Now()); err != nil {
			t.Fatal(err)
		}
		want := append([]string{"..data", "somebody's"}, names...)
		slices.Sort(want)
		if got := visible(t, store.dir); !slices.Equal(got, want) {
			t.Errorf("step %d: entries %q, want %q", i, got, want)
		}
	}
}

// TestCrashAnywhere stops a write after each of its steps.
func TestCrashAnywhere(t *testing.T) {
	for _, change := range []struct {
		name          string
		before, after map[string][]byte
	}{
		{"first write", nil, files(2)},
		{"rewrite", files(1), files(2)},
		{"a file more", files(1), files(2, "tls.crt", "tls.key", "ca.crt", ".hidden", "keystore.p12")},
		{"a file less", files(1), files(2, "ca.crt")},
		{"all others", files(1), files(2, "truststore.jks")},
	} {
		steps := 1
		for done := 0; done < steps; done++ {
			name := fmt.Sprintf("%s, stopped after %d steps", change.name, done)
			store := New(t.TempDir())
			if change.before != nil {
				if err := store.Write(change.before, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			plan := store.steps(change.after, time.Now())
			steps = len(plan)
			for _, step := range plan[:done] {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := store.Load()
			switch {
			case err != nil && (change.before != nil || !errors.Is(err, fs.ErrNotExist)):
				t.Errorf("%s: %v", name, err)
			case err == nil && consistent(got) != nil:
				t.Errorf("%s: %v", name, consistent(got))
			}
			seen := 0
			for file := range got {
				if _, err := os.ReadFile(store.path(file)); err == nil && !strings.HasPrefix(file, ".") {
					seen++
				}
			}
			if want := len(slices.DeleteFunc(slices.Collect(maps.Keys(got)), func(n string) bool { return n[0] == '.' })); seen != want {
				t.Errorf("%s: %d of the %d files are there", name, seen, want)
			}
			last := files(3)
			if err := store.Write(last, time.Now()); err != nil {
				t.Errorf("%s: writing afterwards: %v", name, err)
			}
			if got := agenttest.Must(store.Load())(t); !maps.EqualFunc(got, last, slices.Equal) {
				t.Errorf("%s: %v afterwards", name, slices.Sorted(maps.Keys(got)))
			}
			if got, want := visible(t, store.dir), []string{"..data", "ca.crt", "tls.crt", "tls.key"}; !slices.Equal(got, want) {
				t.Errorf("%s: entries %q afterwards", name, got)
			}
			if left := agenttest.Must(filepath.Glob(store.path("..2*")))(t); len(left) != 1 {
				t.Errorf("%s: %d generations are left", name, len(left))
			}
		}
	}
}

func TestReadersNeverSeeAMixture(t *testing.T) {
	store := New(t.TempDir())
	if err := store.Write(files(0), time.Now()); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				got, err := store.Load()
				if err == nil {
					err = consistent(got)
				}
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 60 {
		if err := store.Write(files(i%3), time.Now()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

func TestWriteReplacesWhatIsInTheWay(t *testing.T) {
	store := New(t.TempDir())
	for _, name := range []string{"tls.crt", "..data_tmp", "..link_tmp"} {
		if err := os.WriteFile(store.path(name), []byte("in the way"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", store.path("tls.key")); err != nil {
		t.Fatal(err)
	}
	if err := store.Write(files(1), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tls.crt", "tls.key"} {
		if data, err := os.ReadFile(store.path(name)); err != nil || string(data) != name+" 1" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if err := New(filepath.Join(store.dir, "missing")).Write(files(1), time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}
