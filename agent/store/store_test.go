// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// contents are those of generation i, told apart by name, bundle and fingerprint.
func contents(t testing.TB, i int) *Contents {
	t.Helper()
	a := newAuthority(t, fmt.Sprintf("ca-%d", i))
	bundle := must(parseBundle(a.bundle(), time.Now()))(t)
	return &Contents{
		Pair:        a.pair(t, names{dns: []string{fmt.Sprintf("gen-%d", i)}}, time.Hour),
		Bundle:      bundle,
		Fingerprint: fmt.Sprintf("fingerprint-%d", i),
	}
}

// consistent fails unless all of c belongs together.
func consistent(c *Contents) error {
	if err := c.Pair.check(names{}, time.Now()); err != nil {
		return err
	}
	if err := c.Pair.leadsTo(c.Bundle, time.Now()); err != nil {
		return err
	}
	if got, want := c.Pair.Leaf().DNSNames[0], strings.Replace(c.Fingerprint, "fingerprint", "gen", 1); got != want {
		return fmt.Errorf("leaf %s with the fingerprint of %s", got, want)
	}
	return nil
}

func TestStoreWrites(t *testing.T) {
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
	store := NewStore(dir)
	if _, err := store.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
	for i := range 3 {
		want := contents(t, i)
		if err := store.Write(want, time.Now()); err != nil {
			t.Fatal(err)
		}
		got := must(store.Load())(t)
		if !got.Pair.Leaf().Equal(want.Pair.Leaf()) || len(got.Pair.Chain) != 2 || !got.Bundle.equal(want.Bundle) {
			t.Errorf("generation %d: read something else", i)
		}
		if err := consistent(got); err != nil {
			t.Error(err)
		}
		if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")); err != nil {
			t.Errorf("as a program reads it: %v", err)
		}
	}
	var entries []string
	for _, entry := range must(os.ReadDir(dir))(t) {
		if !entry.IsDir() {
			entries = append(entries, entry.Name())
		}
	}
	if want := []string{"..data", "ca.crt", "tls.crt", "tls.key"}; !slices.Equal(entries, want) {
		t.Errorf("entries %q, want %q", entries, want)
	}
	generations := must(filepath.Glob(filepath.Join(dir, "..2*")))(t)
	if len(generations) != 1 {
		t.Errorf("%d generations are left, want 1", len(generations))
	}
	for _, name := range []string{"", "tls.crt", "tls.key", "ca.crt"} {
		info := must(os.Stat(filepath.Join(generations[0], name)))(t)
		want := fs.FileMode(fileMode)
		if name == "" {
			want = dirMode
		}
		stat := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != want || int(stat.Gid) != os.Getegid() {
			t.Errorf("%q: mode %v, group %d; want %v, %d", name, info.Mode(), stat.Gid, want, os.Getegid())
		}
	}
	if target := must(os.Readlink(filepath.Join(dir, "tls.key")))(t); target != "..data/tls.key" {
		t.Errorf("tls.key leads to %q", target)
	}
}

// TestStoreSurvivesACrashAnywhere stops a write after each of its steps.
func TestStoreSurvivesACrashAnywhere(t *testing.T) {
	one, two, three := contents(t, 1), contents(t, 2), contents(t, 3)
	for _, before := range []*Contents{nil, one} {
		steps := 1
		for done := 0; done < steps; done++ {
			store := NewStore(t.TempDir())
			if before != nil {
				if err := store.Write(before, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			plan := must(store.steps(two, time.Now()))(t)
			steps = len(plan)
			for _, step := range plan[:done] {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			name := fmt.Sprintf("rewrite %t, %d of %d steps", before != nil, done, steps)
			got, err := store.Load()
			switch {
			case err == nil:
				if err := consistent(got); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case before != nil || !errors.Is(err, fs.ErrNotExist):
				t.Errorf("%s: %v", name, err)
			}
			seen := 0
			for _, file := range visibleFiles {
				if _, err := os.ReadFile(store.path(file)); err == nil {
					seen++
				}
			}
			if seen != 0 && seen != len(visibleFiles) {
				t.Errorf("%s: %d of the files are there", name, seen)
			}
			if err := store.Write(three, time.Now()); err != nil {
				t.Errorf("%s: writing afterwards: %v", name, err)
			}
			if got := must(store.Load())(t); got.Fingerprint != three.Fingerprint {
				t.Errorf("%s: %s afterwards", name, got.Fingerprint)
			}
			if left := must(filepath.Glob(store.path("..2*")))(t); len(left) != 1 {
				t.Errorf("%s: %d generations are left", name, len(left))
			}
		}
	}
}

func TestStoreReadersNeverSeeAMixture(t *testing.T) {
	store := NewStore(t.TempDir())
	all := []*Contents{contents(t, 0), contents(t, 1), contents(t, 2)}
	if err := store.Write(all[0], time.Now()); err != nil {
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
		if err := store.Write(all[i%3], time.Now()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

func TestStoreReplacesWhatIsInTheWay(t *testing.T) {
	store := NewStore(t.TempDir())
	for _, name := range []string{"tls.crt", "..data_tmp", "..link_tmp"} {
		if err := os.WriteFile(store.path(name), []byte("in the way"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", store.path("tls.key")); err != nil {
		t.Fatal(err)
	}
	if err := store.Write(contents(t, 1), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(store.path("tls.crt"), store.path("tls.key")); err != nil {
		t.Error(err)
	}
	if err := NewStore(filepath.Join(store.dir, "missing")).Write(contents(t, 1), time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestStoreStatus(t *testing.T) {
	store := NewStore(t.TempDir())
	for _, text := range []string{"", "waits", "waits for more", ""} {
		if err := store.SetStatus(text); err != nil {
			t.Fatal(err)
		}
		if got := store.Status(); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	if left := must(os.ReadDir(store.dir))(t); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}
