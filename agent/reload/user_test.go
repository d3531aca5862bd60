// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"runtime"
	"syscall"
)

// lockThread makes the goroutine's thread one of another user (setresuid(2) as the
// kernel has it, per thread). The thread is never unlocked, so it ends with the goroutine.
func lockThread(user uintptr) {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, user, user, user); errno != 0 {
		panic(errno)
	}
}
