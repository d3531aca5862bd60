// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spec says how to start a program.
type Spec struct {
	// Name is what the process is called in its pid and log files.
	Name string
	// Program is the path of the file to run.
	Program string
	Args    []string
	// Env is its whole environment: nothing of the caller's, such as a proxy, changes how it behaves.
	Env []string
	// PIDs and Logs are the folders for NAME.pid and NAME.log. A log is appended to.
	PIDs, Logs string
}

// Start runs a program in a session of its own, so that it outlives the caller and does not hear the terminal's
// signals, and saves its identity.
func Start(spec Spec) (Identity, error) {
	log, err := os.OpenFile(filepath.Join(spec.Logs, spec.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return Identity{}, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(spec.Program, spec.Args...)
	cmd.Env = spec.Env
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keepFiles(); err != nil {
		return Identity{}, err
	}
	if err := cmd.Start(); err != nil {
		return Identity{}, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	// The number cannot be reused before the caller waits for the child, which it never does.
	id, err := Identify(cmd.Process.Pid)
	if err == nil {
		err = id.Save(filepath.Join(spec.PIDs, spec.Name+".pid"))
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return Identity{}, fmt.Errorf("keeping track of %s: %w", spec.Name, err)
	}
	return id, cmd.Process.Release()
}

// keepFiles keeps what this process was given open, such as a lock that its caller holds, from those that it starts: they outlive it. What Go
// opens is kept from them anyway.
func keepFiles() error {
	const first = 3 // after standard input, output and error
	if err := unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("keeping open files from programs: %w", err)
	}
	return nil
}
