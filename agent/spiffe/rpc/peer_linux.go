// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who made a connection of a Unix socket (unix(7),
// SO_PEERCRED and SO_PEERPIDFD): those who connected, whoever uses it now.
func peerOf(c net.Conn) (p peer) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return p
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return p
	}
	_ = raw.Control(func(descriptor uintptr) { // of a connection that is closed already, there is nothing to know
		if credentials, err := unix.GetsockoptUcred(int(descriptor), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p.user, p.process.number = credentials.Uid, credentials.Pid
		}
		p.process.inode = inodeOfProcess(int(descriptor))
	})
	return p
}

// inodeOfProcess returns what no two processes of a machine have in common, in
// whatever namespaces they are: the inode of a process's pidfd, since Linux 6.9.
func inodeOfProcess(socket int) uint64 {
	descriptor, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return 0 // before Linux 6.5, or the process has ended
	}
	defer unix.Close(descriptor)
	var stat unix.Stat_t
	if unix.Fstat(descriptor, &stat) != nil {
		return 0
	}
	return stat.Ino
}
