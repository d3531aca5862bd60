// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package faultproxy is a TLS reverse proxy in front of a real server, which lets a test break what goes through it: requests
// that are refused, hang or get another answer, and answers that are cut, endless or changed. It speaks HTTP/1.1 and HTTP/2, and
// so gRPC too.
package faultproxy

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands in front of a server. Its address stays the same whatever happens.
type Proxy struct {
	// URL of the proxy, such as https://127.0.0.1:40000. The paths are the server's.
	URL string
	// CA is the certificate in PEM that the proxy's own certificate leads to. It is for 127.0.0.1 and localhost.
	CA string

	address    string
	pass       http.Handler
	identities map[bool]tls.Certificate // by whether it is an impostor's

	// Requests counts those that came, Sent the bytes of answers that this package made and a client took.
	Requests, Sent atomic.Int64

	mu       sync.Mutex
	fault    http.Handler
	impostor bool
	stop     func() // nil while stopped
}

// Start runs a proxy in front of the server with the given URL until the test ends. The configuration says how to trust the
// server and which client certificate to show there.
func Start(t testing.TB, target string, client *tls.Config) *Proxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatalf("parsing the URL of the server behind the proxy: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}
	p := &Proxy{identities: map[bool]tls.Certificate{}}
	p.pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // servers such as those of ACME write their own address into answers
		},
		Transport: transport, FlushInterval: -1,
		ErrorLog: log.New(io.Discard, "", 0), // of clients that went away
	}
	for _, impostor := range []bool{false, true} {
		authority, identity := newIdentity(t)
		if p.identities[impostor] = identity; !impostor {
			p.CA = authority
		}
	}
	p.listen(t, "127.0.0.1:0")
	p.URL = "https://" + p.address
	t.Cleanup(func() {
		p.Stop()
		transport.CloseIdleConnections()
	})
	return p
}

// listen serves at the address.
func (p *Proxy) listen(t testing.TB, address string) {
	t.Helper()
	var listener net.Listener
	var err error
	for range 50 { // while stopped, somebody's connection may have been given the port
		if listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", address); err == nil {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("listening for the proxy: %v", err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: p.certificate},
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ServeTLS(listener, "", "") // ends with an error when it is closed
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = listener.Addr().String()
	p.stop = func() {
		_ = listener.Close() // the server may not know of it yet
		_ = server.Close()
		<-ended
	}
}

func (p *Proxy) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	identity := p.identities[p.impostor]
	return &identity, nil
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.Requests.Add(1)
	p.mu.Lock()
	handler := p.fault
	p.mu.Unlock()
	if handler == nil {
		handler = p.pass
	}
	handler.ServeHTTP(counting{w, &p.Sent}, r)
}

// counting counts what is written to a client.
type counting struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// Unwrap lets http.ResponseController find the one that can flush.
func (c counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Break has the fault happen to every request from now on, in place of the one before.
func (p *Proxy) Break(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f(p.pass)
}

// Stop closes all connections and refuses new ones.
func (p *Proxy) Stop() {
	p.mu.Lock()
	stop := p.stop
	p.stop = nil
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// Impersonate closes all connections and shows a certificate of a CA that nobody trusts from now on.
func (p *Proxy) Impersonate(t testing.TB) {
	t.Helper()
	p.restart(t, true)
}

// Mend undoes all faults.
func (p *Proxy) Mend(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	p.fault = nil
	whole := p.stop != nil && !p.impostor
	p.mu.Unlock()
	if !whole {
		p.restart(t, false)
	}
}

func (p *Proxy) restart(t testing.TB, impostor bool) {
	t.Helper()
	p.Stop()
	p.mu.Lock()
	p.impostor = impostor
	p.mu.Unlock()
	p.listen(t, p.address)
}
