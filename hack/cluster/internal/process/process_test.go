// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	const rest = " S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 1000 20"
	for name, test := range map[string]struct {
		line string
		want status
		ok   bool
	}{
		"plain":                       {"12 (sleep)" + rest, status{'S', 7, 424242}, true},
		"a name that looks like more": {"12 (a) Z 1 (b c)" + rest, status{'S', 7, 424242}, true},
		"empty":                       {"", status{}, false},
		"cut short":                   {"12 (sleep) S 7 8", status{}, false},
		"no number":                   {"12 (sleep) S x" + rest[4:], status{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat(test.line)
			if (err == nil) != test.ok || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// start runs a program until the test is over.
func start(t *testing.T, program string, args ...string) Identity {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	id, err := Start(Spec{Name: "test", Program: path, Args: args, Env: os.Environ(), PIDs: dir, Logs: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Kill(id); err != nil {
			t.Error(err)
		}
	})
	saved, err := Load(dir)
	if err != nil || saved["test"] != id {
		t.Fatalf("saved: %+v, %v; want %+v", saved, err, id)
	}
	return id
}

func TestStop(t *testing.T) {
	id := start(t, "sleep", "300")
	if !id.Alive() {
		t.Fatal("not alive after its start")
	}
	if err := Stop(id, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("alive after its end")
	}
	if err := Stop(id, 0); err != nil {
		t.Errorf("stopping it again: %v", err)
	}
}

// What the caller was given open by its own caller, such as a lock, does not live on in a process that outlives both.
func TestStartPassesNoOpenFileOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR, 0o600) // as it is when it was inherited: without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	id := start(t, "sleep", "300")
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", id.PID))
	if err != nil || len(files) < 3 {
		t.Fatalf("its open files are %q, %v", files, err)
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err != nil || target == path {
			t.Errorf("it has %s open as %s: %v", target, file, err)
		}
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	id := start(t, "sh", "-c", `trap "" TERM; : > "$0"; while :; do sleep 300; done`, ready)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(pollEvery) {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the shell did not start")
		}
	}
	children, err := Descendants([]Identity{id})
	if err != nil {
		t.Fatal(err)
	}
	if err := Stop(id, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, child := range children {
		if err := Kill(child); err != nil {
			t.Error(err)
		}
	}
	if id.Alive() {
		t.Error("alive after its end")
	}
}

func TestStrangersAreLeftAlone(t *testing.T) {
	id := start(t, "sleep", "300")
	for name, stranger := range map[string]Identity{
		"started at another time": {PID: id.PID, Started: id.Started + 1, Program: id.Program},
		"runs another program":    {PID: id.PID, Started: id.Started, Program: id.Program + "2"},
	} {
		if stranger.Alive() {
			t.Errorf("%s: taken for ours", name)
		}
		if err := Kill(stranger); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !id.Alive() {
		t.Error("a process was ended in the place of another")
	}
}

func TestFind(t *testing.T) {
	id := start(t, "sleep", "300.125")
	found, err := Find(func(arguments []string) bool { return slices.Contains(arguments, "300.125") })
	if err != nil || len(found) != 1 || found[0] != id {
		t.Errorf("got %+v, %v; want %+v", found, err, id)
	}
	self, err := Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	descendants, err := Descendants([]Identity{self})
	if err != nil || !slices.Contains(descendants, id) {
		t.Errorf("descendants: %+v, %v; want %+v in it", descendants, err, id)
	}
}

func TestLoadSkipsWhatIsBroken(t *testing.T) {
	dir := t.TempDir()
	for name, contents := range map[string]string{"a.pid": "", "b.pid": `{"pid":1}`, "c.txt": `{"pid":7}`, "d.pid": `{"pid":7}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	saved, err := Load(dir)
	if err != nil || len(saved) != 1 || saved["d"].PID != 7 {
		t.Errorf("got %+v, %v", saved, err)
	}
	if saved, err := Load(filepath.Join(dir, "none")); err != nil || len(saved) != 0 {
		t.Errorf("no folder: %+v, %v", saved, err)
	}
}
