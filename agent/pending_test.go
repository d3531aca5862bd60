// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

// crashing ends the agent's run as a crash would, right before or after one of the
// operations that others see: nothing that the run would do later happens.
type crashing struct {
	API
	journal
	left  int // operations until the crash
	after bool
	crash func()
}

func (c *crashing) step(operation func() error) error {
	c.left--
	if c.left == 0 && !c.after {
		c.crash()
		runtime.Goexit()
	}
	err := operation()
	if c.left == 0 {
		c.crash()
		runtime.Goexit()
	}
	return err
}

func (c *crashing) Create(ctx context.Context, request *Request) (answer *Request, err error) {
	err = c.step(func() error { answer, err = c.API.Create(ctx, request); return err })
	return answer, err
}

func (c *crashing) Get(ctx context.Context, name string) (answer *Request, err error) {
	err = c.step(func() error { answer, err = c.API.Get(ctx, name); return err })
	return answer, err
}

func (c *crashing) SetPending(data []byte) error {
	return c.step(func() error { return c.journal.SetPending(data) })
}

// run starts an agent that crashes, and reports whether it did within a minute.
func (c *cluster) runUntilCrash(config Config, operation int, after bool) bool {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	faulty := &crashing{API: c.client, left: operation, after: after, crash: cancel}
	manager := must(New(config, Options{
		API: faulty, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}, Jitter: func() float64 { return 0.5 },
	}))(c.t)
	faulty.journal, manager.journal = manager.store, faulty
	go func() { _ = manager.Run(ctx) }()
	time.Sleep(time.Minute)
	synctest.Wait()
	crashed := ctx.Err() != nil
	cancel()
	synctest.Wait()
	return crashed
}

// openRequests counts those without certificate or verdict.
func (c *cluster) openRequests() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, object := range c.objects {
		if object.Status.Certificate == nil && object.verdict() == nil {
			n++
		}
	}
	return n
}

// TestCrashAnywhereMakesNoSecondRequest stops an agent before and after each
// operation, at the first request and at a renewal, with requests that pend, are
// signed or are denied meanwhile.
func TestCrashAnywhereMakesNoSecondRequest(t *testing.T) {
	pends := func(*Request) {}
	for name, test := range map[string]struct {
		renewal  bool
		decide   func(*Request) // at first; afterwards all are signed
		requests int            // in the end, of the one that crashed and of the next
	}{
		"first, signed":    {requests: 1},
		"first, pending":   {decide: pends, requests: 1},
		"renewal, signed":  {renewal: true, requests: 1},
		"renewal, pending": {renewal: true, decide: pends, requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			crashes := 0
			for operation := 1; ; operation++ {
				crashed := false
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						crashed = crashOnce(t, operation, after, test.renewal, test.decide, test.requests) || crashed
					})
				}
				if !crashed || operation > 8 {
					break
				}
				crashes++
			}
			if crashes < 4 {
				t.Errorf("crashed at %d operations, want at least 4: write, create, write, read", crashes)
			}
		})
	}
}

func crashOnce(t *testing.T, operation int, after, renewal bool, decide func(*Request), requests int) (crashed bool) {
	c := newCluster(t)
	config := c.config()
	before := 0
	if renewal {
		run := c.start(config)
		run.after(time.Second)
		run.cancel()
		if err := run.result(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(17 * time.Hour)
		before = 1
	}
	c.with(func() { c.decide = decide })
	crashed = c.runUntilCrash(config, operation, after)
	again := c.start(config)
	again.after(20 * time.Second)
	if n := c.openRequests(); n > 1 {
		t.Errorf("operation %d, after %t: %d requests are open at once", operation, after, n)
	}
	c.with(func() { c.decide = nil })
	got := again.after(time.Minute)
	if got == nil || time.Since(got.Pair.Leaf().NotBefore) > 10*time.Minute {
		t.Fatalf("operation %d, after %t: no fresh pair in the end", operation, after)
	}
	if n := len(c.objects) - before; n != requests {
		t.Errorf("operation %d, after %t: %d requests in all, want %d", operation, after, n, requests)
	}
	if _, err := os.Stat(filepath.Join(config.Directory, "..pending")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("operation %d, after %t: the pending request is still there: %v", operation, after, err)
	}
	return crashed
}

func TestPendingRequestIsFoundAgain(t *testing.T) {
	deny := func(r *Request) { r.Status.Conditions = []RequestCondition{{Type: "Denied", Reason: "No"}} }
	for name, test := range map[string]struct {
		meanwhile func(*cluster, *Config)
		posts     int
		log       string
	}{
		"still open":            {func(*cluster, *Config) {}, 1, "going on with the request of an earlier run"},
		"cleaned away":          {func(c *cluster, _ *Config) { clear(c.objects) }, 2, "was deleted before it was answered"},
		"another in its place":  {func(c *cluster, _ *Config) { each(c, func(r *Request) { r.Metadata.UID = "other" }) }, 2, "was deleted before it was answered"},
		"another configuration": {func(_ *cluster, config *Config) { config.DNSNames = []string{"other.shop.svc"} }, 2, "answers another configuration"},
		"denied": {func(c *cluster, _ *Config) {
			denied := ""
			for name := range c.objects {
				denied = name
			}
			c.decide = func(r *Request) {
				if r.Metadata.Name == denied {
					deny(r)
				} else {
					c.issue(r)
				}
			}
		}, 1, "going on"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.decide = func(*Request) {}
				config := c.config()
				first := c.start(config)
				first.after(time.Minute)
				first.cancel()
				if err := first.result(); err != nil {
					t.Fatal(err)
				}
				c.with(func() {
					c.decide = nil
					test.meanwhile(c, &config)
				})
				again := c.start(config)
				got := again.after(10 * time.Second)
				if name == "denied" {
					var verdict *RequestError
					if err := again.result(); !errors.As(err, &verdict) {
						t.Fatalf("error %v, want the verdict", err)
					}
					got = c.start(config).after(10 * time.Second) // as the kubelet would: with a new request
					test.posts++
				}
				if got == nil {
					t.Error("no key pair")
				}
				again.wantLog(test.log)
				if n := c.count("POST"); n != test.posts {
					t.Errorf("%d POSTs, want %d", n, test.posts)
				}
			})
		})
	}
}

func each(c *cluster, change func(*Request)) {
	for _, object := range c.objects {
		change(object)
	}
}

// Whoever could write to the directory must not have the agent take a certificate
// for a key that he knows, for other names or of another request.
func TestTamperedPendingRequestIsNotTaken(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, r *requester, pending *ticket)
		want   string
	}{
		"name":          {func(_ *testing.T, _ *requester, p *ticket) { p.Name = "../../../api/v1/secrets" }, "no name of ours"},
		"name of other": {func(_ *testing.T, _ *requester, p *ticket) { p.Name = "csr-abc" }, "no name of ours"},
		"long UID":      {func(_ *testing.T, _ *requester, p *ticket) { p.UID = strings.Repeat("x", 200) }, "no name of ours"},
		"no key":        {func(_ *testing.T, _ *requester, p *ticket) { p.Key = nil }, "no private key"},
		"garbage key":   {func(_ *testing.T, _ *requester, p *ticket) { p.Key = []byte("garbage") }, "no private key"},
		"another key": {func(t *testing.T, r *requester, p *ticket) {
			p.Key = must(r.newTicket(time.Time{}))(t).Key
		}, "for another key"},
		"no request": {func(_ *testing.T, _ *requester, p *ticket) { p.Request = nil }, "no PKCS#10 request"},
		"garbage": {func(_ *testing.T, _ *requester, p *ticket) {
			p.Request = []byte("-----BEGIN X-----\n-----END X-----\n")
		}, "the pending request on disk"},
		"more behind":  {func(_ *testing.T, _ *requester, p *ticket) { p.Request = append(p.Request, "more"...) }, "no PKCS#10 request"},
		"other names":  {withNames(names{dns: []string{"evil.shop.svc"}}), "other names"},
		"more names":   {withNames(names{dns: []string{"cart.shop.svc", "evil.shop.svc"}, uris: []string{"spiffe://example.org/ns/shop/sa/cart"}}), "other names"},
		"fewer names":  {withNames(names{dns: []string{"cart.shop.svc"}}), "other names"},
		"other config": {func(_ *testing.T, _ *requester, p *ticket) { p.Fingerprint = "other" }, "another configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				manager := must(New(c.config(), Options{API: c.client, Clock: clock.RealClock{}, Jitter: func() float64 { return 0 }}))(t)
				pending := must(manager.newTicket(time.Time{}))(t)
				if err := manager.keep(pending); err != nil {
					t.Fatal(err)
				}
				if got, err := manager.restore(); err != nil || !samePublic(got.key, pending.key) {
					t.Fatalf("untouched: %v", err)
				}
				test.change(t, &manager.requester, pending)
				if err := manager.keep(pending); err != nil {
					t.Fatal(err)
				}
				run := c.start(c.config())
				got := run.after(10 * time.Second)
				if got == nil || samePublic(got.Pair.Key, pending.key) {
					t.Error("no key pair of the agent's own")
				}
				run.wantLog(test.want)
				if strings.Contains(run.log.String(), "MI") && strings.Contains(run.log.String(), "PRIVATE") {
					t.Error("the log holds a key")
				}
			})
		})
	}
}

func withNames(n names) func(*testing.T, *requester, *ticket) {
	return func(t *testing.T, r *requester, p *ticket) {
		changed := *r
		changed.names = n
		other := must(changed.newTicket(time.Time{}))(t)
		p.Request, p.Key, p.key = other.Request, other.Key, other.key
	}
}

// FuzzPending: whatever lies in the file, nothing but a request for this Config is taken up.
func FuzzPending(f *testing.F) {
	config := Config{SignerName: "example.com/x", DNSNames: []string{"a"}}.withDefaults()
	r := &requester{config: config, names: must(resolveNames(config, ""))(f)}
	f.Add(must(json.Marshal(must(r.newTicket(time.Time{}))(f)))(f))
	f.Add([]byte(`{"name":"certwright-abcdefghijklmnopqrstuvwxyz"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := *r
		r.journal = fixedJournal(data)
		got, err := r.restore()
		if err == nil && got != nil && (!requestNamePattern.MatchString(got.Name) || got.key == nil || got.Fingerprint != config.fingerprint(r.names)) {
			t.Errorf("took up %+v", got)
		}
	})
}

type fixedJournal []byte

func (j fixedJournal) SetPending([]byte) error  { return nil }
func (j fixedJournal) Pending() ([]byte, error) { return j, nil }
