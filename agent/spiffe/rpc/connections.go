// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"
)

// peer is who connected, as the kernel says and not the client. The zero value is
// somebody of whom it says nothing.
type peer struct {
	user    uint32
	process process
}

// process is one as far as it can be told from others of its user: its number is 0
// where it is in a PID namespace beside ours, as in another container, and its inode
// 0, or the same for all, with kernels before 6.9.
type process struct {
	number int32
	inode  uint64
}

// connections are a listener that serves a bounded number of them, and whoever
// comes: when there is no room, one is closed of those who have the most. Those of
// a flood are closed as they come, so that it costs who sends it more than others.
type connections struct {
	net.Listener
	most   int
	settle time.Duration
	full   func(peer) // is told who loses a connection

	mu  sync.Mutex
	all []*connection // oldest first
}

// connection is one of them. Its times and calls are guarded by the mutex of all.
type connection struct {
	net.Conn
	all   *connections
	peer  peer
	calls int
	came  time.Time
	since time.Time // when it came, or its last call began or ended
	gone  chan struct{}
}

// Accept returns the next connection that is served. It waits until the one that
// makes room is gone, so that there are never more.
func (l *connections) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		now := time.Now()
		c := &connection{Conn: accepted, all: l, peer: peerOf(accepted), came: now, since: now, gone: make(chan struct{})}
		old := l.add(c)
		if old == nil {
			return c, nil
		}
		l.full(old.peer)
		if old == c {
			_ = c.Close()
			continue
		}
		_ = old.Conn.Close() // its server finds it broken, and closes it for good
		<-old.gone
		return c, nil
	}
}

// add returns the connection that has to make room, or nil.
func (l *connections) add(c *connection) *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, c)
	if len(l.all) <= l.most {
		return nil
	}
	return loser(l.all, c.came.Add(-l.settle))
}

// loser returns the connection that goes when the last is one too many: one of the
// user that has the most, and of that user's process that has the most; of these the
// oldest without calls, or else the oldest. It is the last itself when those who
// have as many came after the time until which they had to settle.
func loser(all []*connection, settled time.Time) *connection {
	users, processes := make(map[uint32]int), make(map[peer]int)
	for _, c := range all {
		users[c.peer.user]++
		processes[c.peer]++
	}
	share := func(a, b *connection) int {
		return cmp.Or(cmp.Compare(users[a.peer.user], users[b.peer.user]), cmp.Compare(processes[a.peer], processes[b.peer]))
	}
	idle := func(c *connection) int {
		if c.calls == 0 && !c.since.After(settled) {
			return 1
		}
		return 0
	}
	last := len(all) - 1
	// Of equals, MaxFunc returns the first, which is the oldest.
	old := slices.MaxFunc(all[:last], func(a, b *connection) int {
		return cmp.Or(share(a, b), cmp.Compare(idle(a), idle(b)))
	})
	if share(old, all[last]) == 0 && old.came.After(settled) {
		return all[last]
	}
	return old
}

// Close ends the connection and makes room.
func (c *connection) Close() error {
	c.all.mu.Lock()
	if i := slices.Index(c.all.all, c); i >= 0 {
		c.all.all = slices.Delete(c.all.all, i, i+1)
		close(c.gone)
	}
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// count adds to the calls that the connection serves.
func (c *connection) count(calls int) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.calls += calls
	c.since = time.Now()
}

// connectionKey is under which the context of a call holds its connection.
type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

func connectionOf(ctx context.Context) *connection {
	return ctx.Value(connectionKey{}).(*connection)
}
