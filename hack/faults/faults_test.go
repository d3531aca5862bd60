// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"flag"
	"fmt"
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
	// faults are those of this server alone.
	faults []fault
}

// fault breaks something, and mends it.
type fault struct {
	name       string
	begin, end func(t *testing.T)
}

// common are the faults that every server can have.
func (s system) common() []fault {
	return []fault{
		{"stopped", func(*testing.T) { s.process.Kill(); s.proxy.Stop() }, func(t *testing.T) { s.process.Restart(t); s.proxy.Mend(t) }},
		{"paused", func(*testing.T) { s.process.Pause() }, func(*testing.T) { s.process.Resume() }},
		{"slow", func(*testing.T) { s.proxy.Break(faultproxy.Slow(2 * time.Second)) }, func(t *testing.T) { s.proxy.Mend(t) }},
		{"certificate of another CA", func(t *testing.T) { s.proxy.Impersonate(t) }, func(t *testing.T) { s.proxy.Mend(t) }},
	}
}

// run lets a server have one fault after the other, under load for a Signer that has it alone, and for one that has a CA behind it.
func run(t *testing.T, name string, start func(t *testing.T, c *cluster) system) {
	c := startCluster(t)
	s := start(t, c)
	alone := c.setSigner(t, name, s.backend)
	failover := c.setSigner(t, name+"-failover", s.backend, managedCA())
	loads := startLoads(t, c, *rate, alone, failover)
	settle(t, loads, patience)
	for _, f := range append(s.common(), s.faults...) {
		t.Run(f.name, func(t *testing.T) { s.suffer(t, f, loads[0], loads[1]) })
	}
	for _, l := range loads {
		for _, failure := range l.failures {
			t.Error(failure)
		}
	}
	if t.Failed() {
		t.Logf("the signer's last words:\n%s", tail(c.signer.Output()))
	}
}

// settle waits until all is well: what was sent lately has been answered, and nothing waits. It returns how long that took.
func settle(t *testing.T, loads []*load, patience time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) < patience {
		wait(t.Context(), time.Second/2)
		well := true
		for _, l := range loads {
			recent := phase{requests: l.between(time.Now().Add(-calm), time.Now().Add(-prompt))}
			well = well && l.waiting(time.Now().Add(-prompt)) == 0 && len(recent.requests) > 0 && recent.issued() == len(recent.requests) && recent.quantile(0.99) < prompt
		}
		if well {
			return time.Since(start)
		}
	}
	for _, l := range loads {
		t.Errorf("%s: %d requests still wait after %s", l.name, l.waiting(time.Now().Add(-prompt)), patience)
	}
	return time.Since(start)
}

// suffer lets the server have one fault and reports what became of the requests before, during and after it.
func (s system) suffer(t *testing.T, f fault, alone, failover *load) {
	before := time.Now()
	known, lost := s.count(t), 0
	wait(t.Context(), calm)
	begin := time.Now()
	f.begin(t)
	wait(t.Context(), *duration)
	f.end(t)
	end := time.Now()
	calmAgain := settle(t, []*load{alone, failover}, patience)
	until := time.Now().Add(-prompt)
	received := issuedBy(alone.between(before, time.Now()), s.issuer) + issuedBy(failover.between(before, time.Now()), s.issuer)
	if s.issued != nil {
		lost = s.count(t) - known - received
	}

	report := fmt.Sprintf("%s for %s", f.name, *duration)
	for _, l := range []*load{alone, failover} {
		phases := []phase{
			{"before", l.between(before, begin)}, {"during", l.between(begin, end)}, {"after", l.between(end, until)},
		}
		report += "\n  " + l.name
		for _, p := range phases {
			report += "\n  " + p.String()
			if n := len(p.refusals()); n > 0 {
				t.Errorf("%s, %s: requests were given up for trouble", l.name, p.name)
			}
			if p.waiting() > 0 {
				t.Errorf("%s, %s: %d requests wait", l.name, p.name, p.waiting())
			}
		}
		report += fmt.Sprintf("\n  prompt again %s after the fault's end\n", phases[2].recovered(end).Round(100*time.Millisecond))
		if l == failover {
			after := phases[1].recovered(begin)
			report += fmt.Sprintf("  the next backend serves promptly %s after the fault's begin\n", after.Round(100*time.Millisecond))
			late := phase{requests: l.between(begin.Add(takeover), end)}
			if late.quantile(0.99) > prompt {
				t.Errorf("with a backend behind it, p99 is %s later than %s after the fault's begin", late.quantile(0.99), takeover)
			}
		}
	}
	report += fmt.Sprintf("  all is well %s after the fault's end\n", calmAgain.Round(100*time.Millisecond))
	if s.issued != nil {
		report += fmt.Sprintf("  certificates of the server that reached their requests: %d; that were issued and whose answer was lost: %d\n", received, lost)
	}
	t.Log(report)
}

// count returns how many certificates the server issued.
func (s system) count(t *testing.T) int {
	if s.issued == nil {
		return 0
	}
	return s.issued(t)
}

// tail returns the last lines that are about trouble.
func tail(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "level=INFO") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}
