// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

const (
	echoPath = "/test.Service/Echo"
	holdPath = "/test.Service/Hold"
)

func newTestServer() *Server {
	return New(map[string]Handler{echoPath: echo, holdPath: hold}, discard())
}

func TestWhatIsNoCall(t *testing.T) {
	s := serve(t, newTestServer())
	for name, test := range map[string]struct {
		headers []string
		want    string
	}{
		"GET":                  {[]string{":method", "GET", ":scheme", "http", ":path", echoPath}, "405"},
		"no content type":      {[]string{":method", "POST", ":scheme", "http", ":path", echoPath}, "415"},
		"JSON":                 {[]string{":method", "POST", ":scheme", "http", ":path", echoPath, "content-type", "application/json"}, "415"},
		"another encoding":     {[]string{":method", "POST", ":scheme", "http", ":path", echoPath, "content-type", "application/grpc+json"}, "415"},
		"another method":       {[]string{":method", "POST", ":scheme", "http", ":path", echoPath + "/", "content-type", "application/grpc"}, "12"},
		"a path with dots":     {[]string{":method", "POST", ":scheme", "http", ":path", "/x/.." + echoPath, "content-type", "application/grpc"}, "12"},
		"known, and no error":  {[]string{":method", "POST", ":scheme", "http", ":path", echoPath, "content-type", "application/grpc+proto"}, "13"},
		"upgrade from nothing": {[]string{":method", "CONNECT", ":authority", "x"}, "405"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.raw(t)
			r.request(1, test.headers...)
			if strings.HasPrefix(test.want, "1") {
				r.check(r.framer.WriteData(1, true, []byte{0})) // the start of a message, and no more
			}
			if status, reset := r.result(1); status != test.want {
				t.Errorf("got %q, reset %v; want %q", status, reset, test.want)
			}
		})
	}
}

func TestLongHeaders(t *testing.T) {
	s := serve(t, newTestServer())
	for _, length := range []int{2 * maxHeaderBytes, 4 << 20} {
		r := s.raw(t)
		r.open(1, echoPath, "x", strings.Repeat("~", length))
		var err error
		for err == nil {
			_, err = r.framer.ReadFrame()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the server goes on reading after %d bytes", length)
		}
	}
}

// TestOlderHTTP asks as whoever forges requests by way of another server would.
func TestOlderHTTP(t *testing.T) {
	s := serve(t, newTestServer())
	conn := s.dial(t)
	if _, err := io.WriteString(conn, "POST "+echoPath+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc\r\nworkload.spiffe.io: true\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		_ = response.Body.Close()
		t.Errorf("answered with %s", response.Status)
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	s := serve(t, newTestServer())
	for name, test := range map[string]struct {
		length uint32
		bytes  []byte
		want   string
	}{
		"4 GiB":                   {1<<32 - 1, nil, "8"},
		"a byte too many":         {maxMessageBytes + 1, nil, "8"},
		"a field longer than it":  {3, []byte{0x12, 0xff, 0x01}, "3"},
		"a number cut short":      {1, []byte{0x80}, "3"},
		"a field cut short":       {2, []byte{0x0d, 0}, "3"},
		"a group":                 {1, []byte{0x0b}, "3"},
		"field zero":              {2, []byte{0x02, 0}, "3"},
		"a field of 2^63 bytes":   {11, []byte{0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, "3"},
		"a wanted one of as many": {11, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, "8"},
		"many empty fields":       {2048, bytes.Repeat([]byte{0x0a, 0x00}, 1024), "8"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.raw(t)
			r.open(1, echoPath)
			r.message(1, test.length, test.bytes)
			if status, reset := r.result(1); status != test.want {
				t.Errorf("got %q, reset %v; want %q", status, reset, test.want)
			}
		})
	}
}

func TestCompressedMessage(t *testing.T) {
	s := serve(t, newTestServer())
	r := s.raw(t)
	r.open(1, echoPath, "grpc-encoding", "gzip")
	r.check(r.framer.WriteData(1, false, []byte{1, 0, 0, 0, 0}))
	if status, _ := r.result(1); status != "12" {
		t.Errorf("got %q", status)
	}
}

func TestCallThatDoesNotBegin(t *testing.T) {
	server := newTestServer()
	server.beginTimeout = 20 * time.Millisecond
	s := serve(t, server)
	for name, begin := range map[string][]byte{"nothing": nil, "half of a prefix": {0, 0}, "half of a message": {0, 0, 0, 0, 9, 0x0a}} {
		t.Run(name, func(t *testing.T) {
			r := s.raw(t)
			r.open(1, echoPath)
			if begin != nil {
				r.check(r.framer.WriteData(1, false, begin))
			}
			if status, reset := r.result(1); status != "4" {
				t.Errorf("got %q, reset %v", status, reset)
			}
		})
	}
	t.Run("a connection", func(t *testing.T) {
		if _, err := s.dial(t).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a connection without a word: %v", err)
		}
	})
}

func TestCallThatBeganMayBeSilent(t *testing.T) {
	server := newTestServer()
	server.beginTimeout = 20 * time.Millisecond
	s := serve(t, server)
	r := s.raw(t)
	r.open(1, holdPath)
	r.message(1, 0, nil)
	r.open(3, holdPath) // does not begin, and so tells when the time is over
	if status, _ := r.result(3); status != "4" {
		t.Errorf("the second stream: %q", status)
	}
	r.check(r.framer.WriteRSTStream(1, http2.ErrCodeCancel)) // would be an error if the stream were closed
	r.open(5, "/none")
	if status, _ := r.result(5); status != "12" {
		t.Errorf("the third stream: %q", status)
	}
}

// TestClientThatNeverReads has windows of no bytes, so nothing can be sent.
func TestClientThatNeverReads(t *testing.T) {
	server := newTestServer()
	server.sendTimeout = 20 * time.Millisecond
	s := serve(t, server)
	r := s.raw(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	r.open(1, echoPath)
	r.message(1, 3, []byte{0x0a, 1, 'x'})
	if status, reset := r.result(1); reset == 0 {
		t.Errorf("got status %q, want a reset", status)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s := serve(t, newTestServer())
	greedy := s.raw(t)
	for i := range uint32(streamsPerConnection) {
		greedy.open(2*i+1, holdPath)
		greedy.message(2*i+1, 0, nil)
	}
	for len(s.streams) < streamsPerConnection {
		runtime.Gosched()
	}
	other := s.raw(t)
	other.open(1, "/none")
	if status, _ := other.result(1); status != "12" {
		t.Errorf("in another connection: status %q", status)
	}
	greedy.open(2*streamsPerConnection+1, echoPath)
	if status, reset := greedy.result(2*streamsPerConnection + 1); reset != http2.ErrCodeRefusedStream && reset != http2.ErrCodeProtocol {
		t.Errorf("one stream more in a connection: status %q, reset %v", status, reset)
	}
	_ = greedy.conn.Close()
	for len(s.streams) > 0 {
		runtime.Gosched()
	}
}

// TestEndWithClientsThatDoNotLetGo ends the server while clients do not read, or have not begun.
func TestEndWithClientsThatDoNotLetGo(t *testing.T) {
	server := newTestServer()
	server.endTimeout = 100 * time.Millisecond
	s := serve(t, server)
	stalled := s.raw(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	stalled.open(1, echoPath)
	stalled.message(1, 3, []byte{0x0a, 1, 'x'})
	half := s.raw(t)
	half.open(1, echoPath)
	half.check(half.framer.WriteData(1, false, []byte{0, 0, 0}))
	held := s.raw(t)
	held.open(1, holdPath)
	held.message(1, 0, nil)
	s.dial(t)
	for len(s.streams) < 3 {
		runtime.Gosched()
	}
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("took %v", took)
	}
	if status, _ := held.result(1); status != "14" {
		t.Errorf("a call ended with status %q", status)
	}
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all.String(), "rpc.(*Stream)") || strings.Contains(all.String(), "rpc.(*Server)") {
		t.Errorf("something is left: %s", all.String())
	}
}

// TestManyClientsCostLittle opens all the streams there are, sends each the start
// of a message that is as large as allowed, and looks at the heap.
func TestManyClientsCostLittle(t *testing.T) {
	s := serve(t, newTestServer())
	before := heap()
	for range maxConnections {
		r := s.raw(t)
		for i := range uint32(streamsPerConnection) {
			r.open(2*i+1, echoPath)
			r.message(2*i+1, maxMessageBytes, append([]byte{0x12, 0xf0, 0xff, 0x3f}, make([]byte, 3<<10)...))
		}
	}
	for len(s.streams) < cap(s.streams) {
		runtime.Gosched()
	}
	if grown := heap() - before; grown > 6<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestListenerThatFails(t *testing.T) {
	listener, err := net.Listen("unix", fmt.Sprintf("%s/%d.sock", os.TempDir(), os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	if err := newTestServer().Run(context.Background(), listener); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
