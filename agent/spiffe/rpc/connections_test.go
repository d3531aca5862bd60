// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/certwright/certwright/agent/agenttest"
)

// hostileSocket is set for a process that is to be hostile to the server there.
const hostileSocket = "RPC_TEST_HOSTILE_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(hostileSocket); path != "" {
		h := newHostile(path)
		go func() { // ends with whoever started it
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		for range 2 * maxConnections {
			h.connect()
		}
		fmt.Println("took all")
		for range time.Tick(5 * time.Millisecond) { // leaves the tests some of the processor
			h.connect()
		}
	}
	os.Exit(m.Run())
}

// hostile takes connections, all of which are as they should be, and gives none back.
type hostile struct {
	path     string
	greeting []byte
	held     [4 * maxConnections]net.Conn
	made     int
}

func newHostile(path string) *hostile { return &hostile{path: path, greeting: greeting()} }

// greeting is all that a client sends to have as many calls as there may be.
func greeting() []byte {
	var out, headers bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer, encoder := http2.NewFramer(&out, nil), hpack.NewEncoder(&headers)
	_ = framer.WriteSettings() // a buffer takes all
	for i := range uint32(streamsPerConnection) {
		headers.Reset()
		for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", holdPath}, {":authority", "x"}, {"content-type", "application/grpc"}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: headers.Bytes(), EndHeaders: true})
		_ = framer.WriteData(2*i+1, false, make([]byte, prefixBytes))
	}
	return out.Bytes()
}

// connect takes one connection more. Of those that the server has closed it keeps
// some, so as not to run out of descriptors.
func (h *hostile) connect() {
	conn, err := net.Dial("unix", h.path)
	if err != nil {
		return // the socket's queue is full
	}
	_, _ = conn.Write(h.greeting)
	place := &h.held[h.made%len(h.held)]
	if *place != nil {
		_ = (*place).Close()
	}
	*place = conn
	h.made++
}

// close gives all back.
func (h *hostile) close() {
	for _, conn := range h.held {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// spawn starts a process that is hostile until the test ends, and returns when it took all.
func (s *served) spawn(t *testing.T) {
	t.Helper()
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), hostileSocket+"="+s.path)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("the hostile process: %v", err)
		}
	})
	if _, err := io.ReadFull(out, make([]byte, len("took all\n"))); err != nil {
		t.Fatal(err)
	}
}

// openToAll lets every user connect.
func (s *served) openToAll(t *testing.T) {
	t.Helper()
	for name, mode := range map[string]os.FileMode{filepath.Dir(s.path): 0o755, s.path: 0o777} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// answered makes a call, and fails if it gets no answer.
func (r *raw) answered(id uint32, when string) {
	r.t.Helper()
	r.check(r.conn.SetDeadline(time.Now().Add(patience)))
	r.open(id, "/none")
	if status, reset := r.result(id); status != "12" {
		r.t.Fatalf("%s: status %q, reset %v", when, status, reset)
	}
}

func TestLoser(t *testing.T) {
	const settle = time.Second
	now := time.Now()
	type kind struct {
		user    uint32
		process int32
		calls   int
		age     time.Duration
	}
	busy := func(user uint32, process int32) kind { return kind{user, process, 1, time.Hour} }
	idle := func(user uint32, process int32) kind { return kind{user, process, 0, time.Hour} }
	for name, test := range map[string]struct {
		all  []kind // oldest first; the last has come just now
		want int
	}{
		"alone: the oldest":                        {[]kind{busy(1, 1), busy(1, 1), busy(1, 1)}, 0},
		"alone: the oldest without calls":          {[]kind{busy(1, 1), idle(1, 1), idle(1, 1), busy(1, 1)}, 1},
		"one that has come just now is not idle":   {[]kind{busy(1, 1), {1, 1, 0, settle - 1}, {1, 1, 0, 0}}, 0},
		"a flood: the last":                        {[]kind{{1, 1, 8, settle - 1}, {1, 1, 8, settle - 1}, {1, 1, 0, 0}}, 2},
		"a flood: who has fewer is let in":         {[]kind{{1, 1, 8, settle - 1}, {1, 1, 8, settle - 1}, {2, 2, 0, 0}}, 0},
		"a flood: a process that has fewer too":    {[]kind{{1, 1, 8, settle - 1}, {1, 1, 8, settle - 1}, {1, 2, 0, 0}}, 0},
		"a flood from many users: the last":        {[]kind{{1, 1, 8, settle - 1}, {2, 2, 8, settle - 1}, {3, 3, 0, 0}}, 2},
		"a flood: who is settled makes room":       {[]kind{{1, 1, 8, settle}, {1, 1, 8, settle - 1}, {1, 1, 0, 0}}, 0},
		"the user with the most":                   {[]kind{idle(1, 1), busy(2, 2), busy(2, 3), busy(1, 4), busy(2, 5)}, 1},
		"who comes is counted":                     {[]kind{idle(1, 1), busy(2, 2), busy(1, 1), busy(2, 2), busy(2, 2)}, 1},
		"the process with the most":                {[]kind{idle(1, 1), busy(1, 2), busy(1, 2), idle(1, 3)}, 1},
		"processes of another user do not matter":  {[]kind{busy(1, 1), busy(1, 1), busy(2, 2), busy(2, 3), idle(2, 4), busy(2, 5)}, 4},
		"users with as many: the greatest process": {[]kind{busy(1, 1), busy(1, 2), busy(2, 3), busy(2, 3), busy(3, 4)}, 2},
		"each another user: the oldest":            {[]kind{busy(1, 1), busy(2, 2), busy(3, 3)}, 0},
		"each another user: the oldest idle":       {[]kind{busy(1, 1), idle(2, 2), busy(3, 3)}, 1},
		"many users do not push out one with one":  {[]kind{busy(9, 9), busy(1, 1), busy(2, 2), busy(2, 2), busy(3, 3)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var all []*connection
			for _, k := range test.all {
				all = append(all, &connection{peer: peer{k.user, process{number: k.process}}, calls: k.calls, came: now.Add(-k.age), since: now.Add(-k.age)})
			}
			if got := slices.Index(all, loser(all, now.Add(-settle))); got != test.want {
				t.Errorf("number %d loses, want %d", got, test.want)
			}
		})
	}
}

// TestWhoeverComesIsServed takes all places there are, in each of them all calls.
func TestWhoeverComesIsServed(t *testing.T) {
	server := newTestServer()
	server.settle = 0
	s := serve(t, server)
	var clients []*raw
	for range maxConnections {
		r := s.raw(t)
		for i := range uint32(streamsPerConnection) {
			r.open(2*i+1, holdPath)
			r.message(2*i+1, 0, nil)
		}
		clients = append(clients, r)
	}
	for len(s.streams) < cap(s.streams) {
		runtime.Gosched()
	}
	s.raw(t).answered(1, "with all places taken")
	for number, r := range clients {
		if number > 0 { // has all of its calls still: each of them would be over, not reset
			r.check(r.framer.WriteRSTStream(1, http2.ErrCodeCancel))
			r.answered(2*streamsPerConnection+1, fmt.Sprintf("connection %d", number))
			continue
		}
		var err error
		for err == nil {
			_, err = r.framer.ReadFrame()
		}
		if os.IsTimeout(err) {
			t.Error("the oldest connection is still there")
		}
	}
}

// Users do not lose connections by what others open.
func TestUserIsSafeFromOthers(t *testing.T) {
	s := serve(t, newTestServer())
	s.openToAll(t)
	var before, after *raw
	agenttest.As(t, 65532, func() { before = s.raw(t) })
	before.open(1, holdPath)
	before.message(1, 0, nil)
	before.answered(3, "before the attack")
	h := newHostile(s.path)
	defer h.close()
	for range 10 * maxConnections {
		h.connect()
	}
	before.answered(5, "after the attack")
	before.check(before.framer.WriteRSTStream(1, http2.ErrCodeCancel)) // would be an error if the stream were closed
	before.answered(7, "after its own end")
	agenttest.As(t, 65532, func() { after = s.raw(t) })
	after.answered(1, "another connection")
}

// Processes of one user do not lose connections by what others open: some of them
// open much, others little.
func TestProcessIsSafeFromOthers(t *testing.T) {
	s := serve(t, newTestServer())
	before := s.raw(t)
	before.open(1, holdPath)
	before.message(1, 0, nil)
	before.answered(3, "before the attack")
	for range 2 {
		s.spawn(t)
	}
	for i := range uint32(5) {
		before.answered(5+2*i, "during the attack")
		s.raw(t).answered(1, "another connection")
	}
	before.check(before.framer.WriteRSTStream(1, http2.ErrCodeCancel)) // would be an error if the stream were closed
	before.answered(99, "after its own end")
}

// Where nothing tells an attacker from others, each connection has its time.
func TestFloodFromTheSameProcess(t *testing.T) {
	server := newTestServer()
	server.settle = time.Hour
	s := serve(t, server)
	var clients []*raw
	for range maxConnections {
		r := s.raw(t)
		r.answered(1, "before the flood")
		clients = append(clients, r)
	}
	for range 10 * maxConnections {
		if _, err := s.dial(t).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("a connection of the flood: %v", err)
		}
	}
	for number, r := range clients {
		r.answered(3, fmt.Sprintf("connection %d", number))
	}
}

// What the kernel says of a peer: its user, and a process that is another's in no case.
func TestPeerOf(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accept := func() peer {
		client, err := net.Dial("unix", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		return peerOf(server)
	}
	ours := accept()
	if ours != accept() || int(ours.user) != os.Getuid() || int(ours.process.number) != os.Getpid() {
		t.Errorf("of ourselves it says %+v", ours)
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if nobody := peerOf(here); nobody != (peer{}) {
		t.Errorf("of what is no Unix socket it says %+v", nobody)
	}
}
