// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// served is a server that runs until the test ends.
type served struct {
	*Server
	path string
	stop func()
}

// patience is how long the tests wait for what is to happen at once.
const patience = 20 * time.Second

func serve(t *testing.T, s *Server) *served {
	t.Helper()
	dir, err := os.MkdirTemp("", "rpc") // that of t.TempDir can be longer than paths of sockets
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx, listener) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		_ = os.RemoveAll(dir)
	})
	return &served{s, path, stop}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// echo sends back each field 1 that it receives, as a message.
func echo(s *Stream) error {
	messages := s.ReceiveAll(1)
	for {
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case received := <-messages:
			if received.Err != nil {
				return received.Err
			}
			for _, field := range received.Fields {
				if err := s.Send(field.Bytes); err != nil {
					return err
				}
			}
		}
	}
}

// hold takes a message and waits for the end.
func hold(s *Stream) error {
	if _, err := s.Receive(); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// raw is a client that sends the frames that it likes.
type raw struct {
	t       *testing.T
	conn    net.Conn
	framer  *http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
}

func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", s.path)
	for deadline := time.Now().Add(patience); errors.Is(err, syscall.EAGAIN) && time.Now().Before(deadline); {
		conn, err = net.Dial("unix", s.path) // there are many that wait to be accepted
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (s *served) raw(t *testing.T, settings ...http2.Setting) *raw {
	t.Helper()
	r := &raw{t: t, conn: s.dial(t)}
	r.framer = http2.NewFramer(r.conn, r.conn)
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.encoder = hpack.NewEncoder(&r.headers)
	r.check(errors.Join(func() error { _, err := r.conn.Write([]byte(http2.ClientPreface)); return err }(), r.framer.WriteSettings(settings...)))
	return r
}

func (r *raw) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// open begins a stream with headers of a gRPC call, and more.
func (r *raw) open(id uint32, path string, more ...string) {
	r.t.Helper()
	r.request(id, append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "localhost", "content-type", "application/grpc"}, more...)...)
}

func (r *raw) request(id uint32, headers ...string) {
	r.t.Helper()
	r.headers.Reset()
	for i := 0; i < len(headers); i += 2 {
		r.check(r.encoder.WriteField(hpack.HeaderField{Name: headers[i], Value: headers[i+1]}))
	}
	block := r.headers.Bytes()
	const most = 16 << 10
	first := block[:min(len(block), most)]
	r.check(r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(first) == len(block)}))
	for rest := block[len(first):]; len(rest) > 0; {
		part := rest[:min(len(rest), most)]
		rest = rest[len(part):]
		if r.framer.WriteContinuation(id, len(rest) == 0, part) != nil {
			return // the server has had enough
		}
	}
}

// message sends one, of which the length may be a lie.
func (r *raw) message(id uint32, length uint32, message []byte) {
	r.t.Helper()
	frame := make([]byte, prefixBytes, prefixBytes+len(message))
	binary.BigEndian.PutUint32(frame[1:], length)
	r.check(r.framer.WriteData(id, false, append(frame, message...)))
}

// result reads until the stream ends, and returns its status or how it was reset.
func (r *raw) result(id uint32) (status string, reset http2.ErrCode) {
	r.t.Helper()
	for {
		frame, err := r.framer.ReadFrame()
		r.check(err)
		if frame.Header().StreamID != id {
			continue
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			return "", frame.ErrCode
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				if field.Name == "grpc-status" || field.Name == ":status" && field.Value != "200" {
					return field.Value, 0
				}
			}
		}
	}
}
