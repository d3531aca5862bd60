// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/backoff"
)

// due is since when a renewal is wanted, as whoever watches reads it.
func (r *agentRun) due() int {
	r.t.Helper()
	recorder := httptest.NewRecorder()
	r.metrics.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return number(r.t, recorder.Body, "renewal_due_seconds")
}

func TestARenewalThatWaitsShowsAsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.decide = func(*apiserver.Request) {} // nobody does
		begin := int(time.Now().Unix())
		run := c.start(c.config())
		run.after(time.Hour)
		if due := run.due(); due != begin {
			t.Errorf("the first certificate is wanted since %d, and the number is %d", begin, due)
		}
		c.with(func() { c.decide = nil })
		first := run.after(time.Minute)
		if due := run.due(); due != 0 {
			t.Errorf("a certificate that is there is wanted since %d", due)
		}

		c.with(func() { c.decide = func(*apiserver.Request) {} })
		leaf := first.Pair.Leaf()
		share := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3) // as the jitter of these tests has it
		run.after(time.Until(share) + 2*time.Hour)
		if due := time.Unix(int64(run.due()), 0); due.Sub(share).Abs() > time.Minute {
			t.Errorf("the renewal was due at %s, and the number says %s", share, due)
		}
		c.with(func() { c.decide = nil })
		if renewed := run.after(time.Minute); renewed.Pair.Leaf().Equal(leaf) || run.due() != 0 {
			t.Errorf("renewed: %t, and due since %d", !renewed.Pair.Leaf().Equal(leaf), run.due())
		}
	})
}

// A machine that sleeps stops the clock that Go measures pauses by, and not the one on the wall.
func TestAPauseIsSleptOff(t *testing.T) {
	c := newCluster(t)
	config := c.config()
	run := c.start(config)
	eventually(t, "the files", func() bool { return load(config.Directory) != nil })
	run.cancel()
	m := &Manager{current: load(config.Directory).Pair, log: slog.New(slog.DiscardHandler), wait: backoff.New(renewBackoff, maxRenewBackoff, func() float64 { return 0 })}
	now := time.Now() // with a monotonic reading
	if err := m.refuse(now, errors.New("no")); err != nil {
		t.Fatal(err)
	}
	if m.notBefore != m.notBefore.Round(0) || !m.notBefore.After(now) {
		t.Errorf("the next request waits until %v", m.notBefore)
	}
}

// A clock that is set back makes no pause longer than the longest one.
func TestAClockSetBackMakesNoPauseLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var by atomic.Int64
		run := c.startAt(c.config(), shifted{by: &by})
		run.after(15 * time.Hour)
		c.with(func() {
			c.decide = func(r *apiserver.Request) { r.Status.Conditions = []apiserver.RequestCondition{{Type: "Denied"}} }
		})
		run.after(7 * time.Hour) // several were refused
		before := c.count("POST")
		by.Store(int64(-3 * time.Hour)) // the renewal is due all the same
		run.after(20 * time.Minute)
		if n := c.count("POST") - before; n < 1 || n > 4 {
			t.Errorf("%d requests in the 20 minutes after, want one about every 15 minutes", n)
		}
	})
}
