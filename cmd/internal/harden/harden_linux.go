// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package harden keeps the private keys that a process holds in its memory from leaving it by way of the kernel.
package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Process keeps this process's memory out of core files, and other processes of the same user from reading it
// (setrlimit(2), RLIMIT_CORE; prctl(2), PR_SET_DUMPABLE). Call it before the first key is in memory.
func Process() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding others to read this process's memory: %w", err)
	}
	return nil
}
