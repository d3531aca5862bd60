// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agenttest

import (
	"runtime"
	"syscall"
	"testing"
)

// As does something in a thread of another user (setresuid(2) as the kernel has it,
// per thread), which is never unlocked and so ends with it. It needs root.
func As(t testing.TB, user uintptr, do func()) {
	t.Helper()
	became := make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, user, user, user); errno != 0 {
			became <- errno
			return
		}
		became <- nil
		do()
	}()
	err := <-became
	<-done
	if err != nil {
		t.Fatalf("becoming user %d, which needs root: %v", user, err)
	}
}
