// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rpc is the server side of gRPC for a few methods with small messages,
// on net/http's HTTP/2. Messages are read and written field by field, without
// generated code, so that the agent stays small (ADR 12).
//
// What it promises:
//
//   - A client costs a bounded amount of memory whatever it sends or does not read.
//     Connections, streams, headers, messages and what is kept of them are limited; a
//     client that does not begin, or does not read, loses its stream.
//   - Whoever connects is served. When there is no room, who has the most connections
//     loses one: users first, then processes as far as they can be told apart.
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxConnections       = 32
	streamsPerConnection = 8
	maxHeaderBytes       = 8 << 10
	// receiveWindow is how much of what a client sends waits in memory, for each of its connections.
	receiveWindow = 64 << 10
	// fullInterval is how often at most it is logged that there is no room.
	fullInterval = time.Minute
)

// Handler serves one call. The error that it returns becomes the status of the
// call: nil is OK, a *Status is itself, the end of the context is Unavailable and
// anything else Internal.
type Handler func(*Stream) error

// Server serves methods. The zero value of everything but Methods and Log is no
// good: use New.
type Server struct {
	methods map[string]Handler
	log     *slog.Logger
	streams chan struct{} // holds one value for each stream that is being served
	said    rate.Sometimes

	// settle is how long a connection has to make a call and have its answer, before
	// it gives way to another of who has as many; beginTimeout is how long it may
	// take to begin, and a call to send its first message; sendTimeout how long a client may take to read a message;
	// idleTimeout how long a connection without calls is kept, and how long one is
	// silent before it is asked for a sign of life; endTimeout is how long clients
	// have to take in the end of their calls when the server ends.
	settle, beginTimeout, sendTimeout, idleTimeout, endTimeout time.Duration
}

// New returns a server of methods by their paths, /package.Service/Method. All
// others are Unimplemented.
func New(methods map[string]Handler, log *slog.Logger) *Server {
	return &Server{
		methods: methods, log: log, streams: make(chan struct{}, maxConnections*streamsPerConnection), said: rate.Sometimes{Interval: fullInterval},
		settle: time.Second, beginTimeout: 30 * time.Second, sendTimeout: time.Minute, idleTimeout: 2 * time.Minute, endTimeout: time.Second,
	}
}

// Run serves connections of the listener until ctx ends, which is no error; then
// calls end with Unavailable. It closes the listener, and returns after the last
// handler did.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: s.beginTimeout,
		IdleTimeout:       s.idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConnection,
		// What clients do wrong is no news to who reads the agent's log.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          streamsPerConnection,
			MaxReceiveBufferPerConnection: receiveWindow,
			MaxReceiveBufferPerStream:     receiveWindow,
			SendPingTimeout:               s.idleTimeout,
			WriteByteTimeout:              s.sendTimeout,
		},
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(&connections{Listener: listener, most: maxConnections, settle: s.settle, full: s.full})
	}()
	select {
	case err := <-served:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.endTimeout)
	defer cancel()
	if server.Shutdown(end) != nil {
		_ = server.Close() // of connections that are gone or will be
	}
	for range cap(s.streams) { // when all places are taken here, no handler has one
		s.streams <- struct{}{}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP serves one call as gRPC over HTTP/2 has it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "gRPC calls are POST requests", http.StatusMethodNotAllowed)
		return
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/grpc" && kind != "application/grpc+proto" {
		http.Error(w, "the content type must be application/grpc", http.StatusUnsupportedMediaType)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	status := statusOf(s.serve(w, r))
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(int(status.Code)))
	if status.Message != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", escape(status.Message))
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default: // those of connections that are gone have not ended yet; or the server is ending
		return Errorf(Unavailable, "there are %d streams already", cap(s.streams))
	}
	connection := connectionOf(r.Context())
	connection.count(1)
	defer connection.count(-1)
	handler, known := s.methods[r.URL.Path]
	if !known {
		return Errorf(Unimplemented, "no method %q", r.URL.Path)
	}
	ctx, cancel := context.WithCancel(r.Context())
	stream := &Stream{ctx: ctx, cancel: cancel, request: r, writer: w, control: http.NewResponseController(w), sendTimeout: s.sendTimeout}
	defer stream.end()
	if err := errors.Join(stream.control.Flush(), stream.control.SetReadDeadline(time.Now().Add(s.beginTimeout))); err != nil {
		return err
	}
	return handler(stream)
}

// full says that somebody loses a connection.
func (s *Server) full(of peer) {
	s.said.Do(func() {
		s.log.Warn("there is no room for another connection, so the user who has the most loses one", "connections", maxConnections, "user", of.user, "process", of.process.number)
	})
}

// escape encodes a status message as the gRPC protocol wants it in a header.
func escape(message string) string {
	var b strings.Builder
	for _, c := range []byte(message) {
		if c < ' ' || c > '~' || c == '%' {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
