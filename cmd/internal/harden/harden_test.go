// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harden_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/certwright/certwright/cmd/internal/harden"
)

func TestProcess(t *testing.T) {
	if err := harden.Process(); err != nil {
		t.Fatal(err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("core files may have %d bytes, at most %d, error %v: want none", core.Cur, core.Max, err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		t.Errorf("dumpable is %d, error %v: others of the same user can read this process's memory", dumpable, err)
	}
}
