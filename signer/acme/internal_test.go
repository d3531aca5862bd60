// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/time/rate"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/server"
)

func TestPick(t *testing.T) {
	http, dns := &v1alpha1.HTTP01{}, &v1alpha1.DNS01{}
	all, err := newSolvers([]v1alpha1.ACMESolver{
		{HTTP01: http},
		{DNS01: dns},
		{Domains: []string{"Example.com", "example.org"}, DNS01: dns},
		{Domains: []string{"shop.example.com"}, HTTP01: http},
	}, func(v1alpha1.ACMESolver) (challenge.Solver, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	both := []string{challenge.HTTP01, challenge.DNS01, "tls-alpn-01"}
	for name, c := range map[string]struct {
		kind, value string
		offered     []string
		want        int // -1 for none
	}{
		"any name":                       {"dns", "web.example.net", both, 0},
		"any wildcard":                   {"dns", "*.example.net", both, 1},
		"the more specific":              {"dns", "web.example.com", both, 2},
		"the domain itself":              {"dns", "example.com", both, 2},
		"the most specific":              {"dns", "a.shop.example.com", both, 3},
		"a wildcard passes HTTP-01 over": {"dns", "*.shop.example.com", both, 2},
		"no part of a label":             {"dns", "notexample.com", both, 0},
		"an address":                     {"ip", "198.18.0.7", both, 0},
		"an address by DNS-01":           {"ip", "198.18.0.7", []string{challenge.DNS01}, -1},
		"what is offered":                {"dns", "a.shop.example.com", []string{challenge.DNS01}, 2},
		"nothing that we can":            {"dns", "web.example.com", []string{"tls-alpn-01"}, -1},
	} {
		got, ok := all.pick(server.Identifier{Type: c.kind, Value: c.value}, c.offered...)
		if ok != (c.want >= 0) || ok && fmt.Sprint(got.config) != fmt.Sprint(all[c.want].config) {
			t.Errorf("%s: got %v, %t", name, got.config, ok)
		}
	}
}

func TestNewSolversRefuses(t *testing.T) {
	http := &v1alpha1.HTTP01{}
	broken := errors.New("http01.ingress.className: no")
	for want, configs := range map[string][]v1alpha1.ACMESolver{
		"acme.solvers: is empty: at least one is needed to prove names":                                                     nil,
		"acme.solvers[0]: exactly one of http01 and dns01 must be set":                                                      {{}},
		`acme.solvers[0].domains[0]: "*.example.com": must be a DNS name without a wildcard; names below it are meant, too`: {{Domains: []string{"*.example.com"}, HTTP01: http}},
		`acme.solvers[1].domains[1]: "example .com": must be a DNS name without a wildcard; names below it are meant, too`:  {{HTTP01: http}, {Domains: []string{"a.example", "example .com"}, HTTP01: http}},
		"acme.solvers[0].http01.ingress.className: no":                                                                      {{HTTP01: http}},
	} {
		_, err := newSolvers(configs, func(v1alpha1.ACMESolver) (challenge.Solver, error) {
			if len(configs) == 1 {
				return nil, broken
			}
			return nil, nil
		})
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestQueueGivesTurns(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(time.Now())
	q := queue{clock: clk, pace: rate.NewLimiter(ordersPerSecond, ordersAtOnce)}
	last := clk.Now()
	for i := range ordersAtOnce + 10*ordersPerSecond {
		turn := q.turn()
		if turn.Before(last) {
			t.Fatalf("turn %d is before the one before it", i)
		}
		last = turn
	}
	if took := last.Sub(clk.Now()); took < 9*time.Second || took > 11*time.Second {
		t.Errorf("the last turn is after %s, want about ten seconds", took)
	}
}

func TestQueueSlowsDown(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(time.Now())
	q := queue{clock: clk, pace: rate.NewLimiter(ordersPerSecond, ordersAtOnce)}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		q.refused(time.Hour)
		if got := q.slowed(); got != want*time.Second {
			t.Errorf("slowed down for %s, want %ds", got, want)
		}
		if turn := q.turn().Sub(clk.Now()); turn < want*time.Second {
			t.Errorf("the next turn is after %s", turn)
		}
		clk.SetTime(clk.Now().Add(want * time.Second))
	}
	q.ordered()
	q.refused(500 * time.Millisecond)
	if got := q.slowed(); got != 500*time.Millisecond {
		t.Errorf("slowed down for %s, longer than the server wants", got)
	}
}

func TestPredecessorsAreBounded(t *testing.T) {
	var p predecessors
	for i := range maxPredecessors + 100 {
		p.set(sha256.Sum256(fmt.Append(nil, i)), "id")
	}
	if len(p.ids) != maxPredecessors {
		t.Errorf("%d are remembered", len(p.ids))
	}
	key := sha256.Sum256(fmt.Append(nil, maxPredecessors+99))
	if p.of(key) != "id" {
		t.Error("the last one is forgotten")
	}
	p.set(key, "")
	if p.of(key) != "" {
		t.Error("it is not forgotten")
	}
}
