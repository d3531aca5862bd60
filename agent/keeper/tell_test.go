// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
)

func TestChangedTellsEachPairAndBundleOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		config := c.config()
		config.TrustBundleFiles = append(config.TrustBundleFiles, filepath.Join(c.dir, "other"))
		other := agenttest.NewAuthority(t, "other")
		c.write("other", other.Bundle())
		var mu sync.Mutex
		var told []Snapshot
		run := func() (stop func()) {
			manager := agenttest.Must(New(config, Options{
				API: c.client, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}, Jitter: func() float64 { return 0.5 },
				Changed: func(s Snapshot) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, s)
				},
			}))(t)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- manager.Run(ctx) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		want := func(n int, after time.Duration, why string) Snapshot {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(told) != n {
				t.Fatalf("told %d times, want %d: %s", len(told), n, why)
			}
			return told[n-1]
		}
		stop := run()
		first := want(1, time.Minute, "the first pair")
		if len(first.Chain) != 2 || first.Key == nil || len(first.Bundle) != 1 || !first.Bundle[0].Equal(c.ca.Root) {
			t.Errorf("told %d certificates and %d anchors, want the signer's own only", len(first.Chain), len(first.Bundle))
		}
		c.write("other", slices.Concat(other.Bundle(), agenttest.NewAuthority(t, "third").Bundle()))
		want(1, time.Minute, "others' anchors are none of the trust domain's")
		c.write("bundle", slices.Concat(c.ca.Bundle(), agenttest.NewAuthority(t, "next").Bundle()))
		if s := want(2, time.Minute, "another bundle"); len(s.Bundle) != 2 || !s.Chain[0].Equal(first.Chain[0]) {
			t.Errorf("told %d anchors", len(s.Bundle))
		}
		if s := want(3, 16*time.Hour, "a renewal"); s.Chain[0].Equal(first.Chain[0]) || credential.SameKey(s.Key, first.Key) {
			t.Error("told the old pair")
		}
		stop()
		stop = run()
		if s := want(4, time.Minute, "a restart"); !slices.EqualFunc(s.Chain, told[2].Chain, (*x509.Certificate).Equal) {
			t.Error("told another pair than that on disk")
		}
		// A bundle that comes when the pair has expired is told as it is written.
		c.outage()
		c.write("bundle", c.ca.Bundle())
		want(5, time.Minute, "a bundle before the end")
		want(5, 48*time.Hour, "the end of the pair")
		c.write("bundle", slices.Concat(c.ca.Bundle(), agenttest.NewAuthority(t, "last").Bundle()))
		if s := want(6, time.Minute, "a bundle beside an expired pair"); len(s.Bundle) != 2 || !s.Chain[0].Equal(told[4].Chain[0]) {
			t.Errorf("told %d anchors", len(s.Bundle))
		}
		stop()
	})
}

// hurried is a clock whose timers end in a twentieth of their time.
type hurried struct{ clock.RealClock }

func (hurried) NewTimer(d time.Duration) clock.Timer { return clock.RealClock{}.NewTimer(d / 20) }

// reloading has an agent append to a file what it was told.
func reloading(c *cluster) (config agent.Config, told func() int) {
	log := filepath.Join(c.dir, "told")
	config = c.config()
	config.Reload = &agent.Reload{Command: []string{"/bin/sh", "-c", "echo told >> " + log}}
	return config, func() int {
		data, _ := os.ReadFile(log)
		return strings.Count(string(data), "told")
	}
}

func TestApplicationIsToldOfEveryChangeButTheFirst(t *testing.T) {
	c := newTCPCluster(t)
	config, told := reloading(c)
	config.MetricsAddress = freeAddress(t)
	run := c.startAt(config, hurried{})
	eventually(t, "the first files", func() bool { return load(config.Directory) != nil })
	c.write("bundle", slices.Concat(c.ca.Bundle(), agenttest.NewAuthority(t, "second").Bundle()))
	eventually(t, "the second bundle", func() bool { return told() == 1 })
	eventually(t, "the metric", func() bool { return metric(t, config.MetricsAddress, "reloads_total") == 1 })
	if n := metric(t, config.MetricsAddress, "certificate_not_after_seconds"); n != int(load(config.Directory).Pair.Leaf().NotAfter.Unix()) {
		t.Errorf("not after %d", n)
	}
	run.cancel()
	if err := <-run.done; err != nil {
		t.Fatal(err)
	}
	// Told of all that there is: a restart says nothing.
	again := c.startAt(config, hurried{})
	eventually(t, "the restart", func() bool { return strings.Contains(again.log.String(), "taking up the key pair") })
	eventually(t, "its metrics", func() bool { return metric(t, config.MetricsAddress, "reloads_total") == 0 })
	again.cancel()
	if err := <-again.done; err != nil {
		t.Error(err)
	}
	if n := told(); n != 1 {
		t.Errorf("told %d times, want 1: once for the second bundle", n)
	}
	// An agent that died between the change and telling of it: the next one does.
	if err := os.Remove(filepath.Join(config.Directory, "..reloaded")); err != nil {
		t.Fatal(err)
	}
	third := c.startAt(config, hurried{})
	eventually(t, "what the last run owed", func() bool { return told() == 2 })
	third.cancel()
	if err := <-third.done; err != nil {
		t.Error(err)
	}
}

// An application that cannot be told holds up nothing.
func TestReloadThatFailsOrHangsDoesNotStopRenewal(t *testing.T) {
	for name, reload := range map[string]*agent.Reload{
		"fails": {Command: []string{"/bin/false"}},
		"hangs": {Command: []string{"/bin/sleep", "1000"}},
		"gone":  {Command: []string{"/reload/none"}},
		"named": {Process: "no such name", Signal: "HUP"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTCPCluster(t)
			config := c.config()
			config.Reload, config.MetricsAddress = reload, freeAddress(t)
			config.RenewFile = filepath.Join(c.dir, "renew")
			c.write("renew", nil)
			run := c.startAt(config, hurried{})
			eventually(t, "the first files", func() bool { return load(config.Directory) != nil })
			for i := range 2 {
				next := agenttest.NewAuthority(t, "next")
				c.write("bundle", slices.Concat(c.ca.Bundle(), next.Bundle()))
				eventually(t, "bundle "+strconv.Itoa(i), func() bool {
					now := load(config.Directory)
					return now != nil && len(now.Bundle.Certs) == 2 && now.Bundle.Certs[1].Equal(next.Root)
				})
			}
			if name != "hangs" {
				eventually(t, "the failure is counted", func() bool { return metric(t, config.MetricsAddress, "reload_failures_total") > 0 })
			}
			start := time.Now()
			run.cancel()
			if err := <-run.done; err != nil || time.Since(start) > 5*time.Second {
				t.Errorf("ended with %v after %v", err, time.Since(start))
			}
		})
	}
}

// A port that is taken is tried again, and costs no certificate.
func TestMetricsPortIsTaken(t *testing.T) {
	c := newTCPCluster(t)
	listener := agenttest.Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	config := c.config()
	config.MetricsAddress = listener.Addr().String()
	run := c.startAt(config, hurried{})
	eventually(t, "the files", func() bool { return load(config.Directory) != nil })
	eventually(t, "the complaint", func() bool { return strings.Contains(run.status(), "address already in use") })
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the metrics", func() bool { return metric(t, config.MetricsAddress, "renewals_total") == 0 })
	eventually(t, "the end of the complaint", func() bool { return run.status() == "" })
	run.cancel()
	if err := <-run.done; err != nil {
		t.Error(err)
	}
}

// eventually waits for what is to happen.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for tick := time.NewTicker(20 * time.Millisecond); !happened(); {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener := agenttest.Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer listener.Close()
	return listener.Addr().String()
}

// metric reads a number; -1 when there is none.
func metric(t testing.TB, address, name string) int {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return -1
	}
	defer response.Body.Close()
	return number(t, response.Body, name)
}

// number reads one of the numbers that an agent serves; -1 when it is not there.
func number(t testing.TB, served io.Reader, name string) int {
	t.Helper()
	data := agenttest.Must(io.ReadAll(served))(t)
	for line := range strings.Lines(string(data)) {
		if number, found := strings.CutPrefix(line, "certwright_agent_"+name+" "); found {
			return agenttest.Must(strconv.Atoi(strings.TrimSpace(number)))(t)
		}
	}
	return -1
}
