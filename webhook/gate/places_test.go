// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

const (
	attacker  = "127.0.0.2"
	apiServer = "127.0.0.3"
)

// serveGuarded serves over TLS, as in production, and returns the guard below that.
func serveGuarded(t *testing.T, next http.Handler) (*guard, *httptest.Server) {
	t.Helper()
	g := New(clock.RealClock{})
	server := httptest.NewUnstartedServer(g.Wrap(next))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Listener = g.Guard(server.Config, server.Listener)
	guard := server.Listener.(*guard)
	server.StartTLS()
	t.Cleanup(server.Close)
	return guard, server
}

// from returns a function that connects to the server from an address of the loopback interface.
func from(address string, server *httptest.Server) func() (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return func() (net.Conn, error) { return dialer.Dial("tcp", server.Listener.Addr().String()) }
}

// clientFrom returns a client at an address, which counts the connections that it makes.
func clientFrom(t *testing.T, address string, server *httptest.Server) (client *http.Client, dials *atomic.Int64) {
	t.Helper()
	dials = new(atomic.Int64)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return from(address, server)()
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, dials
}

// flood opens connections that send nothing, three times as many as there are places, until all places are taken.
func flood(t *testing.T, server *httptest.Server) {
	t.Helper()
	dial := from(attacker, server)
	for range 3 * places {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

// An address that floods the server loses its own connections: others keep theirs, and get new ones.
func TestFloodTakesNoPlacesOfOthers(t *testing.T) {
	g, server := serveGuarded(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	kept, dials := clientFrom(t, apiServer, server)
	if got := postBy(kept, server.URL, 10); got.err != nil {
		t.Fatal(got.err)
	}
	flood(t, server)
	if got := postBy(kept, server.URL, 10); got.err != nil || got.status != http.StatusOK || dials.Load() != 1 {
		t.Errorf("on a connection that was kept: %+v, %d connections", got, dials.Load())
	}
	for range 5 {
		another, _ := clientFrom(t, apiServer, server)
		if got := postBy(another, server.URL, 10); got.err != nil || got.status != http.StatusOK {
			t.Errorf("on a new connection: %+v", got)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) > places+1 || g.held[apiServer] != 6 {
		t.Errorf("%d connections, %d of the API server; want at most %d, and 6", len(g.conns), g.held[apiServer], places+1)
	}
}

// What has its turn is answered, even that of an address that floods the server.
func TestFloodCutsNoTurn(t *testing.T) {
	hook := newSlow()
	_, server := serveGuarded(t, hook)
	client, _ := clientFrom(t, attacker, server)
	answered := make(chan answer)
	go func() { answered <- postBy(client, server.URL, 10) }()
	<-hook.entered
	flood(t, server)
	close(hook.answer)
	if got := <-answered; got.err != nil || got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
}

// Whoever goes gives back the place.
func TestPlacesAreGivenBack(t *testing.T) {
	g, server := serveGuarded(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	client, _ := clientFrom(t, apiServer, server)
	if got := postBy(client, server.URL, 10); got.err != nil {
		t.Fatal(got.err)
	}
	flood(t, server)
	server.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns)+len(g.held) != 0 {
		t.Errorf("%d connections are left, of %v", len(g.conns), g.held)
	}
}

// Heads of bodies and of requests are read before any turn is taken. Without bounds, both took more than twice as much.
func TestSlowSendersFitIntoMemory(t *testing.T) {
	const most = 200 << 20 // with what the clients take, and the race detector
	for name, attack := range map[string]struct {
		connections int
		sent        string
	}{
		"bodies":  {1500, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65535\r\n\r\n" + strings.Repeat("a", 65000)},
		"headers": {400, "POST / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 900<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			_, server := serveGuarded(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("handled") }))
			sent := []byte(attack.sent) // shared, so that it is the server's memory that counts
			dial, before := from(attacker, server), inUse()
			var group sync.WaitGroup
			for range attack.connections {
				group.Go(func() {
					if err := sendAndWait(dial, sent); err != nil {
						t.Error(err)
					}
				})
			}
			ended := make(chan struct{})
			go func() { group.Wait(); close(ended) }()
			var peak uint64
			for running := true; running; {
				select {
				case <-ended:
					running = false
				default:
					peak = max(peak, inUse())
				}
			}
			t.Logf("%d connections took %d MiB", attack.connections, (peak-before)>>20)
			if peak > before+most {
				t.Errorf("%d connections took %d MiB, want at most %d", attack.connections, (peak-before)>>20, most>>20)
			}
		})
	}
}

// sendAndWait sends over TLS and waits until the server ends the connection, however it does. It returns an error only if
// the server does not.
func sendAndWait(dial func() (net.Conn, error), sent []byte) error {
	below, err := dial()
	if err != nil {
		return err
	}
	defer below.Close()
	if err := below.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	conn := tls.Client(below, &tls.Config{InsecureSkipVerify: true})
	if _, err := conn.Write(sent); err == nil {
		_, err = io.Copy(io.Discard, conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

// inUse is the memory that is reachable, in bytes.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
