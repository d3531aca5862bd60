// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// target are the processes that get a signal: those of a name whose parent has
// another one.
type target struct {
	proc string // where proc(5) is
	name string
}

// signal sends the signal to all of them. It is an error when there is none.
func (t target) signal(signal syscall.Signal) error {
	entries, err := os.ReadDir(t.proc)
	if err != nil {
		return fmt.Errorf("looking for processes: %w", err)
	}
	reached := 0
	var problems []error
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		// Process 1 is the pod's pause container, or the agent: no application.
		if err != nil || pid <= 1 || pid == os.Getpid() {
			continue
		}
		switch matched, err := t.one(pid, signal); {
		case err != nil:
			problems = append(problems, err)
		case matched:
			reached++
		}
	}
	if reached == 0 && problems == nil {
		return fmt.Errorf("no process of the name %q is there whose parent has another name: compare the pod's /proc/*/comm, and see that the pod has shareProcessNamespace: true", t.name)
	}
	return errors.Join(problems...)
}

// one signals a process if it is meant. The handle is taken before the name is
// read, so that the signal cannot reach another process that got the same number.
func (t target) one(pid int, signal syscall.Signal) (matched bool, err error) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false, nil //nolint:nilerr // it has ended
	}
	defer func() { _ = process.Release() }()
	name, state, parent, err := t.stat(pid)
	if err != nil || name != t.name || state == 'Z' || state == 'X' {
		return false, nil //nolint:nilerr // it has ended
	}
	if parents, _, _, err := t.stat(parent); err == nil && parents == t.name {
		return false, nil
	}
	switch err := process.Signal(signal); {
	case errors.Is(err, os.ErrProcessDone):
		return false, nil
	case errors.Is(err, syscall.EPERM):
		return false, fmt.Errorf("process %d (%s) does not belong to user %d, as whom the agent runs: let its container run as that user", pid, t.name, os.Geteuid())
	case err != nil:
		return false, fmt.Errorf("signalling process %d (%s): %w", pid, t.name, err)
	}
	return true, nil
}

// stat reads a process's name, state and parent. The name may hold anything,
// parentheses and newlines too; what follows it cannot hold any (proc_pid_stat(5)).
func (t target) stat(pid int) (name string, state byte, parent int, err error) {
	data, err := os.ReadFile(filepath.Join(t.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0, 0, err
	}
	first, last := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if first < 0 || last < first {
		return "", 0, 0, errors.New("stat holds no name")
	}
	fields := bytes.Fields(data[last+1:])
	if len(fields) < 2 || len(fields[0]) != 1 {
		return "", 0, 0, errors.New("stat holds no state")
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return string(data[first+1 : last]), fields[0][0], parent, err
}
