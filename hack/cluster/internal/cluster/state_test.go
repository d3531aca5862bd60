// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/certwright/certwright/hack/cluster/internal/process"
)

func TestRecord(t *testing.T) {
	c := newCluster(t)
	if got, err := c.recorded(); err != nil || got.Release != "" {
		t.Errorf("before: %+v, %v", got, err)
	}
	want, err := newRecord(NewVersion("1.37", "1.35"), programs{kubernetes: "/programs", kubelet: "/kubelet"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.save(want); err != nil {
		t.Fatal(err)
	}
	if got, err := c.recorded(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestLock(t *testing.T) {
	c := &Cluster{Dir: filepath.Join(t.TempDir(), "cluster")}
	unlock, err := c.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.lock(); err == nil || !strings.Contains(err.Error(), "at work") {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	if unlock, err = c.lock(); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestForeignFoldersAreLeftAlone(t *testing.T) {
	c := &Cluster{Dir: t.TempDir(), Out: &strings.Builder{}}
	file := c.path("thesis.txt")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.lock(); err == nil || !strings.Contains(err.Error(), "not a cluster") {
		t.Errorf("locked: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestMountsBelow(t *testing.T) {
	const table = `22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
30 22 0:5 / /c rw - tmpfs tmpfs rw
31 22 0:5 / /c/one rw - tmpfs tmpfs rw
32 22 0:5 / /cc/two rw - tmpfs tmpfs rw
33 31 0:5 / /c/one/with\040space rw - tmpfs tmpfs rw
`
	if got, want := mountsBelow(table, "/c"), []string{"/c/one/with space", "/c/one"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMentions(t *testing.T) {
	c := &Cluster{Dir: "/c"}
	for argument, want := range map[string]bool{
		"--config=/c/config/kubelet.yaml": true, "/c/config/Corefile": true, "/c": false, "/cc/config": false, "--v=2": false,
	} {
		if got := c.mentions(argument); got != want {
			t.Errorf("%s: %v, want %v", argument, got, want)
		}
	}
}

func TestContainerFiles(t *testing.T) {
	c := newCluster(t)
	task := c.path("run", "containerd", "io.containerd.runtime.v2.task", "k8s.io")
	for file, contents := range map[string]string{
		filepath.Join(task, "a", "address"):        "unix:///run/containerd/s/0123",
		filepath.Join(task, "b", "address"):        "unix:///etc/passwd",
		filepath.Join(task, "c", "bootstrap.json"): `{"version":3,"address":"unix:///run/containerd/s/4567","protocol":"ttrpc"}`,
		filepath.Join(c.path("containerd", "io.containerd.grpc.v1.cri", "sandboxes"), "a", "metadata"): "",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.containerFiles()
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(path string) bool { return strings.HasPrefix(path, cniResults+cniNetwork) })
	if want := []string{"/run/containerd/s/0123", "/run/containerd/s/4567", cniResults + "cni-loopback-a-lo"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRemoveCgroupTree(t *testing.T) {
	root := filepath.Join(t.TempDir(), "kubepods")
	if err := os.MkdirAll(filepath.Join(root, "burstable", "pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := removeCgroupTree(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if err := removeCgroupTree(root); err != nil {
		t.Errorf("when it is gone: %v", err)
	}
}

func TestWaitTellsWhatDied(t *testing.T) {
	c := newCluster(t)
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	id, err := process.Start(process.Spec{
		Name: etcd, Program: shell, Args: []string{"-c", "echo no luck today; exec sleep 300"}, Env: os.Environ(), PIDs: c.path("pids"), Logs: c.Logs(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(id); err != nil {
		t.Fatal(err)
	}
	err = c.wait(context.Background(), "what never comes", func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "etcd has ended by itself") || !strings.Contains(err.Error(), c.logFile(etcd)) {
		t.Errorf("got %v", err)
	}
}

func TestWaitGivesUp(t *testing.T) {
	c := newCluster(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	err := c.wait(ctx, "a bus", func(context.Context) error { return errors.New("none in sight") })
	if err == nil || err.Error() != "waiting for a bus: enough; last seen: none in sight" {
		t.Errorf("got %v", err)
	}
}

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("a\nb\nc\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for count, want := range map[int]string{1: "c", 2: "b\nc", 9: "a\nb\nc"} {
		if got := lastLines(path, count); got != want {
			t.Errorf("%d lines: %q, want %q", count, got, want)
		}
	}
}

func TestStatusWithoutACluster(t *testing.T) {
	c := &Cluster{Dir: filepath.Join(t.TempDir(), "none"), Out: &strings.Builder{}}
	if err := c.Status(context.Background()); !errors.Is(err, ErrDown) {
		t.Errorf("status: %v", err)
	}
	if err := c.Load(context.Background(), []string{"image.tar"}); !errors.Is(err, ErrDown) {
		t.Errorf("load: %v", err)
	}
	if _, err := c.LogFile(etcd); !errors.Is(err, ErrDown) {
		t.Errorf("logs: %v", err)
	}
	if _, err := newCluster(t).LogFile("../../etc/passwd"); err == nil || !strings.Contains(err.Error(), "components are etcd, ") {
		t.Errorf("logs of what is no component: %v", err)
	}
}

func TestCheckPorts(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = checkPorts(context.Background(), map[string]string{listener.Addr().String(): kubelet})
	if err == nil || !strings.Contains(err.Error(), "kubelet cannot listen on "+listener.Addr().String()) {
		t.Errorf("got %v", err)
	}
}
