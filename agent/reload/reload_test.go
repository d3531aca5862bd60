// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

// recorder is a Reloader whose actions are the test's, in a bubble.
type recorder struct {
	*Reloader
	mu       sync.Mutex
	done     []string
	failures int
	calls    []string
	fails    map[string]int // how often an action still fails
}

func newRecorder(t *testing.T, names ...string) *recorder {
	t.Helper()
	r := &recorder{fails: make(map[string]int)}
	r.Reloader = New(Actions{}, Options{
		Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}, Jitter: func() float64 { return 0 },
		Done:   func(generation string) { r.with(func() { r.done = append(r.done, generation) }) },
		Failed: func() { r.with(func() { r.failures++ }) },
	})
	for _, name := range names {
		r.actions = append(r.actions, action{name, func(context.Context) (err error) {
			r.with(func() {
				r.calls = append(r.calls, name)
				if r.fails[name]--; r.fails[name] >= 0 {
					err = errors.New("fails")
				}
			})
			return err
		}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go r.Run(ctx)
	return r
}

func (r *recorder) with(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// seen returns what happened so far.
func (r *recorder) seen() (calls, done []string, failures int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls), slices.Clone(r.done), r.failures
}

func (r *recorder) after(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func TestOnlyWhatFailedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, "signal", "url", "command")
		r.with(func() { r.fails["url"] = 2 })
		r.Changed("one")
		r.after(0)
		if calls, done, _ := r.seen(); !slices.Equal(calls, []string{"signal", "url", "command"}) || done != nil {
			t.Errorf("calls %q, done %q", calls, done)
		}
		r.after(3 * time.Second) // 1 s, then 2 s
		calls, done, failures := r.seen()
		if want := []string{"signal", "url", "command", "url", "url"}; !slices.Equal(calls, want) {
			t.Errorf("calls %q", calls)
		}
		if !slices.Equal(done, []string{"one"}) || failures != 2 {
			t.Errorf("done %q with %d failures", done, failures)
		}
		r.after(time.Hour)
		if calls, _, _ := r.seen(); len(calls) != 5 {
			t.Errorf("calls %q after it was done", calls)
		}
	})
}

func TestNewerChangeStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, "signal", "url")
		r.with(func() { r.fails["url"] = 1000 })
		r.Changed("one")
		r.after(time.Hour)
		if calls, _, _ := r.seen(); len(calls) < 15 || len(calls) > 25 {
			t.Errorf("%d calls in an hour of failure, want about one in five minutes", len(calls))
		}
		r.with(func() { r.fails["url"], r.calls = 0, nil })
		r.Changed("two")
		r.after(0)
		if calls, done, _ := r.seen(); !slices.Equal(calls, []string{"signal", "url"}) || !slices.Equal(done, []string{"two"}) {
			t.Errorf("calls %q, done %q", calls, done)
		}
	})
}

func TestChangedNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := newRecorder(t)
		r.actions = []action{{"slow", func(context.Context) error { <-hold; return nil }}} // read after the first change only
		for range 100 {
			r.Changed("some")
		}
		r.Changed("last")
		synctest.Wait()
		close(hold)
		synctest.Wait()
		if _, done, _ := r.seen(); len(done) == 0 || len(done) > 2 || done[len(done)-1] != "last" {
			t.Errorf("done %q, want the last change, and of the others at most one", done)
		}
	})
}

func TestEndsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		r := New(Actions{}, Options{
			Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}, Jitter: func() float64 { return 0 },
			Failed: func() {}, Done: func(string) { t.Error("done") },
		})
		r.actions = []action{{"fails", func(context.Context) error { return errors.New("fails") }}}
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		r.Changed("one")
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case <-ended:
		default:
			t.Error("still running")
		}
	})
}

// What an application can have in an error ends up in the log, on one line and cut.
func TestLogIsBounded(t *testing.T) {
	var log bytes.Buffer
	r := New(Actions{}, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Failed: func() {}})
	r.attempt(t.Context(), []action{{"x", func(context.Context) error { return errors.New(strings.Repeat("a\nb", 100000)) }}})
	if log.Len() > 2*maxMessage || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("%d bytes in %d lines", log.Len(), strings.Count(log.String(), "\n"))
	}
}

func TestViolations(t *testing.T) {
	for name, test := range map[string]struct {
		actions Actions
		want    string // "" when all is well
	}{
		"signal":             {Actions{Process: "nginx", Signal: "HUP"}, ""},
		"name with spaces":   {Actions{Process: "php-fpm: master", Signal: "USR2"}, ""},
		"url":                {Actions{URL: "http://localhost:8080/-/reload"}, ""},
		"url v4":             {Actions{URL: "http://127.0.0.1:1/?a=b"}, ""},
		"url v6":             {Actions{URL: "http://[::1]:65535"}, ""},
		"command":            {Actions{Command: []string{"/reload/notify", "--all", ""}}, ""},
		"all":                {Actions{Process: "a", Signal: "TERM", URL: "http://localhost:1", Command: []string{"/a"}}, ""},
		"nothing":            {Actions{}, "reload: is empty"},
		"no signal":          {Actions{Process: "nginx"}, `reload.signal: "" is not allowed, use one of HUP, INT, QUIT, TERM, USR1, USR2, WINCH`},
		"no process":         {Actions{Signal: "HUP"}, "reload.process"},
		"kill":               {Actions{Process: "nginx", Signal: "KILL"}, `"KILL"`},
		"a number":           {Actions{Process: "nginx", Signal: "1"}, "reload.signal"},
		"with SIG":           {Actions{Process: "nginx", Signal: "SIGHUP"}, "reload.signal"},
		"long name":          {Actions{Process: "sixteen-letters-", Signal: "HUP"}, "the kernel cuts longer ones"},
		"a path":             {Actions{Process: "/usr/sbin/nginx", Signal: "HUP"}, "without slashes"},
		"control characters": {Actions{Process: "a\nb", Signal: "HUP"}, "printable ASCII"},
		"not ASCII":          {Actions{Process: "é", Signal: "HUP"}, "printable ASCII"},
		"space around":       {Actions{Process: " nginx", Signal: "HUP"}, "printable ASCII"},
		"the agent":          {Actions{Process: "certwright-agen", Signal: "HUP"}, "another process than the agent"},
		"another host":       {Actions{URL: "http://example.com:80/"}, "reload.url"},
		"a host like it":     {Actions{URL: "http://localhost.example.com:80/"}, "reload.url"},
		"user as host":       {Actions{URL: "http://localhost:80@example.com:80/"}, "reload.url"},
		"the metadata":       {Actions{URL: "http://169.254.169.254:80/"}, "reload.url"},
		"any address":        {Actions{URL: "http://0.0.0.0:80/"}, "reload.url"},
		"mapped":             {Actions{URL: "http://[::ffff:127.0.0.1]:80/"}, "reload.url"},
		"decimal":            {Actions{URL: "http://2130706433:80/"}, "reload.url"},
		"https":              {Actions{URL: "https://localhost:80/"}, "reload.url"},
		"a socket":           {Actions{URL: "unix:///run/x"}, "reload.url"},
		"no port":            {Actions{URL: "http://localhost/"}, "reload.url"},
		"port 0":             {Actions{URL: "http://localhost:0/"}, "reload.url"},
		"port too high":      {Actions{URL: "http://localhost:65536/"}, "reload.url"},
		"fragment":           {Actions{URL: "http://localhost:80/#x"}, "reload.url"},
		"garbage":            {Actions{URL: "http://local host:80\r\nHost: x/"}, "reload.url"},
		"relative":           {Actions{Command: []string{"notify"}}, "the absolute path"},
		"NUL":                {Actions{Command: []string{"/a", "b\x00"}}, "without NUL"},
		"long argument":      {Actions{Command: []string{"/a", strings.Repeat("x", 5000)}}, "at most 4096 bytes"},
		"many arguments":     {Actions{Command: slices.Repeat([]string{"/a"}, 65)}, "1 to 64 arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			found := strings.Join(test.actions.Violations("reload"), "; ")
			if (found == "") != (test.want == "") || !strings.Contains(found, test.want) {
				t.Errorf("violations %q, want %q", found, test.want)
			}
		})
	}
}
