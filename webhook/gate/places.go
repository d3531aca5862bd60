// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// places is how many connections there are at a time. One holds up to about 110 KiB before it takes a turn. An API server
	// makes one for each request that it works on, of which all that change something are 200 at most by default.
	places = 256

	// maxHeader bounds the header of a request, in bytes; that of an API server takes a few hundred.
	maxHeader = 8 << 10
	// headerTimeout bounds the time for a TLS handshake, and for a header to arrive.
	headerTimeout = 5 * time.Second
	// idleTimeout is longer than the 90 seconds after which API servers close a connection that they do not use. Whoever closes
	// second loses no request that is just on its way.
	idleTimeout = 2 * time.Minute
)

// Guard sets the limits of a server and returns the listener that it has to use, below TLS, for its connections to be bounded.
// It has places for so many. If one more comes, then another one goes: of those without a turn, which are idle, send slowly or
// wait, the one that does so longest, of the address that has most connections. So one that floods the server takes places
// from itself and not from API servers.
func (g *Gate) Guard(server *http.Server, listener net.Listener) net.Listener {
	server.MaxHeaderBytes, server.ReadHeaderTimeout, server.IdleTimeout = maxHeader, headerTimeout, idleTimeout
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, guarded(c))
	}
	server.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			guarded(c).setBusy(false)
		}
	}
	return &guard{Listener: listener, conns: map[*conn]struct{}{}, held: map[string]int{}}
}

// guard is a listener that bounds how many of its connections are open.
type guard struct {
	net.Listener

	mu    sync.Mutex
	conns map[*conn]struct{}
	held  map[string]int // how many, by address
	count uint64         // of what happened
}

// conn is a connection of a guard, and how it is used.
type conn struct {
	net.Conn
	guard   *guard
	address string
	// under guard.mu:
	since uint64 // by the guard's count, when it became or ceased to be busy
	busy  bool   // a request of its has a turn
}

// connKey is where the context of a request has its conn.
type connKey struct{}

// Accept implements net.Listener.
func (g *guard) Accept() (net.Conn, error) {
	accepted, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, guard: g, address: accepted.RemoteAddr().String()}
	if host, _, err := net.SplitHostPort(c.address); err == nil {
		c.address = host
	}
	if leaves := g.add(c); leaves != nil {
		_ = leaves.Close() // nobody is there to hear of it
	}
	return c, nil
}

// add takes a connection in and returns the one that must go for it, if one must. It may be the same.
func (g *guard) add(c *conn) (leaves *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
	c.since = g.count
	g.conns[c] = struct{}{}
	g.held[c.address]++
	if len(g.conns) <= places {
		return nil
	}
	leaves = c
	for other := range g.conns {
		if more := g.held[other.address] - g.held[leaves.address]; !other.busy && (more > 0 || more == 0 && other.since < leaves.since) {
			leaves = other
		}
	}
	return leaves
}

// Close implements net.Conn. It gives back the place.
func (c *conn) Close() error {
	c.guard.mu.Lock()
	if _, open := c.guard.conns[c]; open {
		delete(c.guard.conns, c)
		if c.guard.held[c.address]--; c.guard.held[c.address] == 0 {
			delete(c.guard.held, c.address)
		}
	}
	c.guard.mu.Unlock()
	return c.Conn.Close()
}

// setBusy says whether a request of the connection has a turn, so that it must not be closed. A nil conn is one that nobody
// guards.
func (c *conn) setBusy(busy bool) {
	if c == nil {
		return
	}
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	c.guard.count++
	c.since, c.busy = c.guard.count, busy
}

// guarded returns the conn that is below TLS, if there is one.
func guarded(c net.Conn) *conn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	below, _ := c.(*conn)
	return below
}
