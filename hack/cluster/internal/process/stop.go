// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery is how often a process that was told to end is looked at.
const pollEvery = 20 * time.Millisecond

// Stop asks a process to end and returns when it has. One that is still there after grace is killed; one that has
// ended before is fine.
func Stop(id Identity, grace time.Duration) error {
	if err := id.signal(unix.SIGTERM); err != nil {
		return err
	}
	if id.wait(grace) {
		return nil
	}
	return Kill(id)
}

// Kill ends a process at once and returns when it is gone.
func Kill(id Identity) error {
	if err := id.signal(unix.SIGKILL); err != nil {
		return err
	}
	if !id.wait(10 * time.Second) {
		return fmt.Errorf("process %d (%s) is still there 10 s after it was killed", id.PID, id.Program)
	}
	return nil
}

// signal sends a signal to this very process: the pidfd pins the process before its identity is checked.
func (id Identity) signal(signal unix.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	if !id.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("ending process %d (%s): %w", id.PID, id.Program, err)
	}
	return nil
}

// wait returns whether the process ended within the time given.
func (id Identity) wait(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); id.Alive(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Find returns the processes whose command line, with its arguments, satisfies match.
func Find(match func(arguments []string) bool) ([]Identity, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	var found []Identity
	for _, pid := range all {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(raw) == 0 {
			continue // Gone already, or a thread of the kernel.
		}
		arguments := strings.Split(string(bytes.TrimSuffix(raw, []byte{0})), "\x00")
		if !match(arguments) {
			continue
		}
		if id, err := Identify(pid); err == nil {
			found = append(found, id)
		}
	}
	return found, nil
}

// Descendants returns the children of these processes, their children and so on, the deepest last.
func Descendants(roots []Identity) ([]Identity, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, pid := range all {
		if now, err := read(pid); err == nil {
			children[now.parent] = append(children[now.parent], pid)
		}
	}
	var found []Identity
	queue := make([]int, 0, len(roots))
	for _, root := range roots {
		queue = append(queue, root.PID)
	}
	for len(queue) > 0 {
		next := children[queue[0]]
		queue = append(queue[1:], next...)
		for _, pid := range next {
			if id, err := Identify(pid); err == nil {
				found = append(found, id)
			}
		}
	}
	return found, nil
}

// list returns the numbers of all processes, in order.
func list() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
