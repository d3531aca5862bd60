// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// slow is a handler that answers when it is told to.
type slow struct {
	working, most atomic.Int64
	entered       chan struct{}
	answer        chan struct{}
}

func newSlow() *slow {
	return &slow{entered: make(chan struct{}, 1000), answer: make(chan struct{})}
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.working.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	s.entered <- struct{}{}
	<-s.answer
	s.working.Add(-1)
	size, _ := io.Copy(io.Discard, r.Body)
	_, _ = fmt.Fprint(w, size)
}

func serve(t *testing.T, c clock.Clock, next http.Handler) (*Gate, *httptest.Server) {
	t.Helper()
	g := New(c)
	server := httptest.NewServer(g.Wrap(next))
	t.Cleanup(server.Close)
	return g, server
}

type answer struct {
	status     int
	text       string
	retryAfter string
	err        error
}

func post(server *httptest.Server, size int) answer { return postBy(server.Client(), server.URL, size) }

func postBy(client *http.Client, url string, size int) answer {
	response, err := client.Post(url, "application/json", bytes.NewReader(make([]byte, size)))
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, text: strings.TrimSpace(string(text)), retryAfter: response.Header.Get("Retry-After"), err: err}
}

// A flood of large bodies is worked on two at a time; a small one passes it, and a Deployment of 500 pods gets through.
func TestTurns(t *testing.T) {
	hook := newSlow()
	_, server := serve(t, clocktesting.NewFakeClock(time.Now()), hook)
	const flood, pods = 20, 500
	large, smalls := make(chan answer, flood), make(chan answer, pods)
	for range flood {
		go func() { large <- post(server, 3<<20) }()
	}
	for range largeTurns {
		<-hook.entered
	}
	for range pods {
		go func() { smalls <- post(server, 8<<10) }()
	}
	for range smallTurns {
		<-hook.entered
	}
	close(hook.answer)
	for range pods {
		if got := <-smalls; got.err != nil || got.status != http.StatusOK || got.text != fmt.Sprint(8<<10) {
			t.Fatalf("small body: %+v", got)
		}
	}
	for range flood {
		if got := <-large; got.err != nil || got.status != http.StatusOK || got.text != fmt.Sprint(3<<20) {
			t.Fatalf("large body: %+v", got)
		}
	}
	if most := hook.most.Load(); most != smallTurns+largeTurns {
		t.Errorf("%d requests were worked on at once, want %d", most, smallTurns+largeTurns)
	}
}

func TestBusy(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "just small": small - 1, "just large": small, "large": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakeClock(time.Now())
			hook := newSlow()
			_, server := serve(t, clk, hook)
			turns := largeTurns
			if size < small {
				turns = smallTurns
			}
			served := make(chan answer, turns)
			for range turns {
				go func() { served <- post(server, size) }()
				<-hook.entered
			}
			refused := make(chan answer)
			go func() { refused <- post(server, size) }()
			for !clk.HasWaiters() {
				if len(hook.entered) > 0 {
					t.Fatal("one too many was let in")
				}
				runtime.Gosched()
			}
			clk.Step(patience)
			if got := <-refused; got.err != nil || got.status != http.StatusServiceUnavailable || got.retryAfter != "1" || !strings.Contains(got.text, "try again") {
				t.Errorf("got %+v, want to be told when to try again", got)
			}
			close(hook.answer)
			for range turns {
				if got := <-served; got.err != nil || got.status != http.StatusOK {
					t.Errorf("one that had its turn got %+v", got)
				}
			}
			if got := post(server, size); got.status != http.StatusOK {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
}

// The client that API servers call webhooks with tries again by itself.
func TestAPIServersTryAgain(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	hook := newSlow()
	g, server := serve(t, clk, hook)
	for range smallTurns {
		if err := g.enter(t.Context(), g.pods.small); err != nil {
			t.Fatal(err)
		}
	}
	client, err := rest.UnversionedRESTClientFor(&rest.Config{
		Host: server.URL, ContentConfig: rest.ContentConfig{NegotiatedSerializer: scheme.Codecs.WithoutConversion()},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // as in the configuration of the webhook
	defer cancel()
	answered := make(chan error)
	go func() { answered <- client.Post().Body([]byte("{}")).Do(ctx).Error() }()
	for !clk.HasWaiters() { // until it waits for its turn
		runtime.Gosched()
	}
	clk.Step(patience)
	for range smallTurns {
		<-g.pods.small
	}
	close(hook.answer)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// A client that goes away while it waits leaves no turn behind.
func TestGone(t *testing.T) {
	g := New(clocktesting.NewFakeClock(time.Now()))
	for range largeTurns {
		if err := g.enter(t.Context(), g.pods.large); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.enter(ctx, g.pods.large); err == nil {
		t.Fatal("let in one too many")
	}
	if len(g.pods.large) != largeTurns {
		t.Errorf("%d turns are taken, want %d", len(g.pods.large), largeTurns)
	}
}

func TestTooLarge(t *testing.T) {
	_, server := serve(t, clock.RealClock{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("handled") }))
	if got := post(server, largest+1); got.status != http.StatusRequestEntityTooLarge || !strings.Contains(got.text, "7340032") {
		t.Errorf("got %+v, want one that names the limit", got)
	}
}

// Clients that send a byte and then nothing take no turn of those who send a small body.
func TestSlowSenders(t *testing.T) {
	_, server := serve(t, clock.RealClock{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for range smallTurns + largeTurns {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
	}
	if got := post(server, 1000); got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
}

// Both kinds of body are given up on when they do not arrive in time, and a turn is given back.
func TestBodyThatNeverEnds(t *testing.T) {
	for name, sent := range map[string]int{"small": 1, "large": small + 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, server := serve(t, clock.RealClock{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("handled") }))
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n%s", make([]byte, sent)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn) // until the server closes
			if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
				t.Errorf("got %s, %v", got, err)
			}
			if len(g.pods.small)+len(g.pods.large) != 0 {
				t.Error("a turn is still taken")
			}
		})
	}
}

// What is under way, and what still arrives on a connection that was kept, is answered after Close; then the connection ends.
func TestClose(t *testing.T) {
	hook := newSlow()
	g, server := serve(t, clock.RealClock{}, hook)
	if err := g.Ready(nil); err != nil {
		t.Fatalf("not ready: %v", err)
	}
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	<-hook.entered
	g.Close()
	if err := g.Ready(nil); err == nil {
		t.Error("ready while closing")
	}
	close(hook.answer)
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || strings.Count(string(got), "HTTP/1.1 200 OK") != 2 || strings.Count(string(got), "Connection: close") != 1 {
		t.Errorf("got %s, %v; want both answered, the second as the last", got, err)
	}
}
