// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// containerFiles returns the files beyond the cluster's folder that belong to containers which are still there: the
// sockets of their shims, and what CNI remembers of their networks. Killed, they cannot remove these themselves.
func (c *Cluster) containerFiles() ([]string, error) {
	// containerd 2 writes bootstrap.json in the place of address.
	bundles, err := filepath.Glob(c.path("run", "containerd", "io.containerd.runtime.v2.task", "*", "*", "[ab]*"))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, file := range bundles {
		if base := filepath.Base(file); base != "address" && base != "bootstrap.json" {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // The container has just ended, and its shim has cleaned up.
		}
		if socket := shimSocket.FindSubmatch(raw); socket != nil {
			files = append(files, string(socket[1]))
		}
	}
	sandboxes, err := filepath.Glob(c.path("containerd", "io.containerd.grpc.v1.cri", "sandboxes", "*"))
	if err != nil {
		return nil, err
	}
	for _, sandbox := range sandboxes {
		// The network cni-loopback is containerd's own, in every containerd.
		files = append(files, cniResults+"cni-loopback-"+filepath.Base(sandbox)+"-lo")
	}
	results, err := filepath.Glob(cniResults + cniNetwork + "-*")
	return append(files, results...), err
}

// shimSocket finds the path of a shim's socket.
var shimSocket = regexp.MustCompile(`unix://(/run/containerd/s/[0-9a-f]+)`)

// cniResults is where CNI remembers networks.
const cniResults = "/var/lib/cni/results/"

// unmountAll takes away all mounts in the cluster's folder, the latest first.
func (c *Cluster) unmountAll() error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("listing mounts: %w", err)
	}
	var errs []error
	for _, target := range mountsBelow(string(raw), c.Dir) {
		// Detached, not waited for: what still uses it has been killed, and the kernel lets go of it in a moment.
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", target, err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow returns the targets of the mounts below dir, the latest first, from a table like /proc/self/mountinfo.
func mountsBelow(table, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var targets []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if target := unescape.Replace(fields[4]); strings.HasPrefix(target, dir+"/") {
			targets = append(targets, target)
		}
	}
	slices.Reverse(targets)
	return targets
}

// removeCgroups removes the cgroups of pods, in every hierarchy. The processes in them have been killed, but the kernel
// may need a moment to bury them.
func removeCgroups(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := errors.Join(removeCgroupTree("/sys/fs/cgroup/kubepods"), removeEachCgroupTree("/sys/fs/cgroup/*/kubepods"))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("removing the pods' cgroups: %w", err)
		case <-ticker.C:
		}
	}
}

// removeEachCgroupTree removes all the cgroups that match a pattern, with those in them.
func removeEachCgroupTree(pattern string) error {
	matches, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range matches {
		errs = append(errs, removeCgroupTree(root))
	}
	return errors.Join(errs...)
}

// removeCgroupTree removes a cgroup and those in it. A cgroup that holds a process cannot be removed. The files in a
// cgroup go with it.
func removeCgroupTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	slices.Reverse(dirs) // Parents were found before what is in them.
	errs := []error{err}
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeOutside removes what the cluster left beyond its own folder: the files of containers, and what the kubelet
// made. Of the folders, it removes those that were absent before and that nobody else has put anything into since.
func (c *Cluster) removeOutside(containerFiles, absent []string) error {
	remove := slices.Clone(containerFiles)
	logs, err := filepath.Glob("/var/log/containers/*.log")
	if err != nil {
		return err
	}
	for _, link := range logs {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, c.Dir+"/") {
			remove = append(remove, link)
		}
	}
	if slices.Contains(absent, "/var/lib/kubelet/device-plugins") {
		remove = append(remove, "/var/lib/kubelet/device-plugins/kubelet.sock", "/var/lib/kubelet/device-plugins/DEPRECATION")
	}
	var errs []error
	for _, path := range remove {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, dir := range slices.Backward(absent) {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
