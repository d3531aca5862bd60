// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process starts programs that outlive the caller, and finds and ends them later.
//
// It promises never to signal a process that it did not start: a process is known by its number, the moment it started
// and the program it runs, so that a number that the kernel has given to another process since then is not taken for it.
package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Identity tells one process from all others that ran or will run on this machine.
type Identity struct {
	PID int `json:"pid"`
	// Started is when the process started, in clock ticks since the machine booted.
	Started uint64 `json:"started"`
	// Program is the path of the file that it runs.
	Program string `json:"program"`
}

// status is what the kernel says about a process at one moment.
type status struct {
	state   byte
	parent  int
	started uint64
}

// parseStat reads a line of /proc/PID/stat, see proc_pid_stat(5). The second field is the name of the program in
// parentheses, which may itself hold spaces and parentheses.
func parseStat(line string) (status, error) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return status{}, fmt.Errorf("no program name in %q", line)
	}
	fields := strings.Fields(line[end+1:]) // The first one is field 3.
	if len(fields) < 20 {
		return status{}, fmt.Errorf("%d fields after the program name in %q, want at least 20", len(fields), line)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return status{}, fmt.Errorf("parent in %q: %w", line, err)
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return status{}, fmt.Errorf("start time in %q: %w", line, err)
	}
	return status{state: fields[0][0], parent: parent, started: started}, nil
}

// read asks the kernel about a process.
func read(pid int) (status, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	return parseStat(string(line))
}

// program returns the path of the file that a process runs, also when that file has been deleted since.
func program(pid int) (string, error) {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return strings.TrimSuffix(path, " (deleted)"), err
}

// Identify returns the identity of the process that has this number now.
func Identify(pid int) (Identity, error) {
	now, err := read(pid)
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	path, err := program(pid)
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	return Identity{PID: pid, Started: now.started, Program: path}, nil
}

// Alive says whether this very process still runs. One that has ended and waits for its parent does not.
func (id Identity) Alive() bool {
	now, err := read(id.PID)
	if err != nil || now.started != id.Started || now.state == 'Z' || now.state == 'X' {
		return false
	}
	path, err := program(id.PID)
	return err == nil && path == id.Program
}

// Save writes the identity to a file.
func (id Identity) Save(path string) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// Load returns the identities saved in a folder as NAME.pid, by name. A folder that is not there holds none.
func Load(dir string) (map[string]Identity, error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	saved := map[string]Identity{}
	for _, file := range files {
		name, ok := strings.CutSuffix(file.Name(), ".pid")
		if !ok {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return nil, err
		}
		var id Identity
		// A file cut short by a crash says nothing; the sweep by program finds its process.
		if json.Unmarshal(raw, &id) == nil && id.PID > 1 {
			saved[name] = id
		}
	}
	return saved, nil
}
