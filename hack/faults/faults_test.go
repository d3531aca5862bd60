// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

var (
	duration = flag.Duration("duration", 20*time.Second, "how long each fault lasts")
	rate     = flag.Int("rate", 20, "requests per second for each Signer")
)

const (
	prompt   = time.Second      // how soon a request has its certificate while all is well, on a machine that is busy with this
	calm     = 5 * time.Second  // how long all must be well before a fault and after it
	takeover = 10 * time.Second // how soon the next backend must serve
	patience = 3 * time.Minute  // how soon after a fault nothing may wait any more
)

// system is a real server that signs, behind a proxy, and how Certwright uses it.
type system struct {
	backend v1alpha1.Backend
	process *servers.Process
	proxy   *faultproxy.Proxy
	// issuer is how the common name of the server's CA begins.
	issuer string
	// issued asks the server how many certificates it ever issued; nil if it cannot be asked.
	issued func(t *testing.T) int
	// prompt is how soon a certificate is there while all is well. Default: a second.
	prompt time.Duration
	// forgets is true if the server knows nothing any more after it was stopped. Then only the way to it is closed.
	forgets bool
	// faults are those of this server alone.
	faults []fault
}

// fault breaks something, and mends it.
type fault struct {
	name       string
	slow       time.Duration // how long the server takes for a request that it serves
	begin, end func(t *testing.T)
}

// common are the faults that every server can have.
func (s system) common() []fault {
	const slow = 2 * time.Second
	mend := func(t *testing.T) { s.proxy.Mend(t) }
	return []fault{
		{name: "stopped", begin: func(*testing.T) { s.stop() }, end: func(t *testing.T) { s.restart(t); mend(t) }},
		{name: "paused", begin: func(*testing.T) { s.process.Pause() }, end: func(*testing.T) { s.process.Resume() }},
		{name: "slow", slow: slow, begin: func(*testing.T) { s.proxy.Break(faultproxy.Slow(slow)) }, end: mend},
		{name: "certificate of another CA", begin: func(t *testing.T) { s.proxy.Impersonate(t) }, end: mend},
	}
}

func (s system) stop() {
	if !s.forgets {
		s.process.Kill()
	}
	s.proxy.Stop()
}

func (s system) restart(t *testing.T) {
	if !s.forgets {
		s.process.Restart(t)
	}
}

// loads of three Signers: one that has the server alone, one that has a CA behind it, and one that has nothing to do with it,
// whose requests show what the machine and the others' troubles cost.
type loads struct{ alone, failover, control *load }

func (l loads) all() []*load { return []*load{l.alone, l.failover, l.control} }

// run lets a server have one fault after the other, under load.
func run(t *testing.T, name string, start func(t *testing.T, c *cluster) system) {
	c := startCluster(t)
	s := start(t, c)
	s.prompt = cmp.Or(s.prompt, prompt)
	l := loads{newLoad(name, *rate, s.prompt), newLoad(name+"-failover", *rate, s.prompt), newLoad("control", max(1, *rate/4), prompt)}
	c.setSigner(t, l.alone.name, s.backend)
	c.setSigner(t, l.failover.name, s.backend, managedCA())
	c.setSigner(t, l.control.name, managedCA())
	startLoads(t, c, l.all()...)
	if l.settle(t); t.Failed() {
		t.Fatal("all is not well before the first fault")
	}
	for _, f := range append(s.common(), s.faults...) {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) { s.suffer(t, f, l) })
	}
	for _, l := range l.all() {
		for _, failure := range l.failures {
			t.Error(failure)
		}
	}
}

// settle waits until all is well: what was sent lately has been answered promptly, and nothing waits. It returns how long that took.
func (l loads) settle(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) < patience {
		wait(t.Context(), time.Second/2)
		if !slices.ContainsFunc(l.all(), func(l *load) bool { return !l.well() }) {
			return time.Since(start)
		}
	}
	for _, l := range l.all() {
		if !l.well() {
			t.Errorf("%s: all is not well after %s; %d requests wait", l.name, patience, l.waiting(time.Now().Add(-l.prompt)))
		}
	}
	return time.Since(start)
}

// count returns how many certificates the server issued and how many of them reached a request since a moment. Nothing is sent
// meanwhile, so that the numbers are of the same requests.
func (s system) count(t *testing.T, l loads, since time.Time) (issued, received int, now time.Time) {
	t.Helper()
	if s.issued == nil {
		return 0, 0, time.Now()
	}
	for _, l := range l.all() {
		l.held.Store(true)
		defer l.held.Store(false)
	}
	for start := time.Now(); l.alone.waiting(time.Now())+l.failover.waiting(time.Now()) > 0; wait(t.Context(), 50*time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("requests wait, although the server is well")
		}
	}
	now = time.Now()
	return s.issued(t), issuedBy(l.alone.between(since, now), s.issuer) + issuedBy(l.failover.between(since, now), s.issuer), now
}

// suffer lets the server have one fault and reports what became of the requests before, during and after it.
func (s system) suffer(t *testing.T, f fault, l loads) {
	known, _, before := s.count(t, l, time.Now())
	wait(t.Context(), calm)
	begin := time.Now()
	f.begin(t)
	wait(t.Context(), *duration)
	f.end(t)
	end := time.Now()
	calmAgain := l.settle(t)
	issued, received, until := s.count(t, l, before)

	busy, _ := os.ReadFile("/proc/loadavg")
	report := fmt.Sprintf("%s for %s; load average of the machine: %s", f.name, *duration, bytes.TrimSpace(busy))
	for _, l := range l.all() {
		phases := []phase{
			{"before", l.between(before, begin)}, {"during", l.between(begin, end)}, {"after", l.between(end, until.Add(-l.prompt))},
		}
		report += "\n  " + l.name
		for _, p := range phases {
			report += "\n    " + p.String()
			if n := len(p.refusals()); n > 0 {
				t.Errorf("%s, %s: requests were given up for trouble", l.name, p.name)
			}
			if p.waiting() > 0 {
				t.Errorf("%s, %s: %d requests wait", l.name, p.name, p.waiting())
			}
		}
		report += fmt.Sprintf("\n    prompt again %s after the fault's end", phases[2].recovered(end, l.prompt).Round(100*time.Millisecond))
	}
	during := phase{requests: l.failover.between(begin, end)}
	report += fmt.Sprintf("\n  with a backend behind it, prompt again %s after the fault's begin", during.recovered(begin, s.prompt).Round(100*time.Millisecond))
	late := phase{requests: l.failover.between(begin.Add(takeover), end)}
	if bound := f.slow + s.prompt; late.quantile(0.99) > bound {
		t.Errorf("with a backend behind it, p99 is %s later than %s after the fault's begin, want %s", late.quantile(0.99), takeover, bound)
	}
	report += fmt.Sprintf("\n  all is well %s after the fault's end", calmAgain.Round(100*time.Millisecond))
	if s.issued != nil {
		report += fmt.Sprintf("\n  the server issued %d certificates, of which %d reached their requests; the answers with the other %d were lost", issued-known, received, issued-known-received)
	}
	t.Log(report)
}
