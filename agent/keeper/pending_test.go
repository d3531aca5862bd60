// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/request"
)

// crashing ends the agent's run as a crash would, right before or after one of the
// operations that others see: nothing that the run would do later happens.
type crashing struct {
	request.API
	request.Journal
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

func (c *crashing) Create(ctx context.Context, request *apiserver.Request) (answer *apiserver.Request, err error) {
	err = c.step(func() error { answer, err = c.API.Create(ctx, request); return err })
	return answer, err
}

func (c *crashing) Get(ctx context.Context, name string) (answer *apiserver.Request, err error) {
	err = c.step(func() error { answer, err = c.API.Get(ctx, name); return err })
	return answer, err
}

func (c *crashing) SetPending(data []byte) error {
	return c.step(func() error { return c.Journal.SetPending(data) })
}

// run starts an agent that crashes, and reports whether it did within a minute.
func (c *cluster) runUntilCrash(config agent.Config, operation int, after bool) bool {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	faulty := &crashing{API: c.client, left: operation, after: after, crash: cancel}
	manager := agenttest.Must(New(config, Options{
		API: faulty, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}, Jitter: func() float64 { return 0.5 },
	}))(c.t)
	faulty.Journal, manager.requester.Journal = manager.store, faulty
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
		if object.Status.Certificate == nil && object.Verdict() == nil {
			n++
		}
	}
	return n
}

// TestCrashAnywhereMakesNoSecondRequest stops an agent before and after each
// operation, at the first request and at a renewal, with requests that pend, are
// signed or are denied meanwhile.
func TestCrashAnywhereMakesNoSecondRequest(t *testing.T) {
	pends := func(*apiserver.Request) {}
	for name, test := range map[string]struct {
		renewal  bool
		decide   func(*apiserver.Request) // at first; afterwards all are signed
		requests int                      // in the end, of the one that crashed and of the next
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

func crashOnce(t *testing.T, operation int, after, renewal bool, decide func(*apiserver.Request), requests int) (crashed bool) {
	c := newCluster(t)
	config := c.config()
	before := 0
	if renewal {
		run := c.start(config)
		run.after(time.Second)
		run.stop()
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
	deny := func(r *apiserver.Request) {
		r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied", Reason: "No"}}
	}
	for name, test := range map[string]struct {
		meanwhile func(*cluster, *agent.Config)
		posts     int
		log       string
	}{
		"still open":            {func(*cluster, *agent.Config) {}, 1, "going on with the request of an earlier run"},
		"cleaned away":          {func(c *cluster, _ *agent.Config) { clear(c.objects) }, 2, "was deleted before it was answered"},
		"another in its place":  {func(c *cluster, _ *agent.Config) { each(c, func(r *apiserver.Request) { r.Metadata.UID = "other" }) }, 2, "was deleted before it was answered"},
		"another configuration": {func(_ *cluster, config *agent.Config) { config.DNSNames = []string{"other.shop.svc"} }, 2, "answers another configuration"},
		"denied": {func(c *cluster, _ *agent.Config) {
			denied := ""
			for name := range c.objects {
				denied = name
			}
			c.decide = func(r *apiserver.Request) {
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
				c.decide = func(*apiserver.Request) {}
				config := c.config()
				first := c.start(config)
				first.after(time.Minute)
				first.stop()
				c.with(func() {
					c.decide = nil
					test.meanwhile(c, &config)
				})
				again := c.start(config)
				got := again.after(10 * time.Second)
				if name == "denied" {
					var verdict *apiserver.RequestError
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

// A pod that comes back with other addresses asks anew. The agent has no right to take
// the former request back: it is left, named in the log, and of use to nobody.
func TestPodThatComesBackWithAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.decide = func(*apiserver.Request) {}
		config := c.config()
		config.IPAddresses = []string{"198.18.0.1"}
		first := c.start(config)
		first.after(time.Minute)
		first.stop()
		former := ""
		c.with(func() {
			for former = range c.objects {
			}
			c.calls, c.decide = nil, nil
		})
		config.IPAddresses = []string{"198.18.0.2"}
		again := c.start(config)
		if got := again.after(time.Minute); got == nil || got.Pair.Leaf().IPAddresses[0].String() != "198.18.0.2" {
			t.Fatal("no certificate for the new address")
		}
		again.wantLog("request " + former + " of an earlier run answers another configuration")
		if posts, looks, open := c.count("POST"), c.count("GET /apis/certificates.k8s.io/v1/certificatesigningrequests/"+former), c.openRequests(); posts != 1 || looks != 0 || open != 1 {
			t.Errorf("%d new requests, %d looks at the former one, %d open; want 1, 0 and the former one", posts, looks, open)
		}
		if _, err := os.Stat(filepath.Join(config.Directory, "..pending")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the key of the former request is still there: %v", err)
		}
	})
}

func each(c *cluster, change func(*apiserver.Request)) {
	for _, object := range c.objects {
		change(object)
	}
}

// Whoever could write to the directory must not have the agent take a certificate
// for a key that he knows.
func TestTamperedPendingRequestIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.decide = func(*apiserver.Request) {}
		config := c.config()
		first := c.start(config)
		first.after(time.Minute)
		first.stop()
		file := filepath.Join(config.Directory, "..pending")
		var pending map[string]any
		if err := json.Unmarshal(agenttest.Must(os.ReadFile(file))(t), &pending); err != nil {
			t.Fatal(err)
		}
		planted := agenttest.Must(credential.GenerateKey("ECDSA-P256"))(t)
		pending["key"] = agenttest.Must(x509.MarshalPKCS8PrivateKey(planted))(t)
		if err := os.WriteFile(file, agenttest.Must(json.Marshal(pending))(t), 0o600); err != nil {
			t.Fatal(err)
		}
		c.with(func() { c.decide = nil })
		again := c.start(config)
		got := again.after(10 * time.Second)
		if got == nil || credential.SameKey(got.Pair.Key, planted) {
			t.Error("no key pair of the agent's own")
		}
		again.wantLog("is for another key")
	})
}
