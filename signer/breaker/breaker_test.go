// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package breaker

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"
)

var (
	start  = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	sealed = errors.New("503 sealed")
)

// patient is a Breaker with its clock, and the states that it came to.
type patient struct {
	*Breaker
	clock  *testingclock.FakePassiveClock
	states []State
}

func newPatient() *patient {
	p := &patient{clock: testingclock.NewFakePassiveClock(start)}
	p.Breaker = New(p.clock, func(_, to State) { p.states = append(p.states, to) })
	return p
}

// call makes a call, which must be let through.
func (p *patient) call(t *testing.T, o Outcome) {
	t.Helper()
	done, err := p.Begin()
	if err != nil {
		t.Fatalf("the call is not let through: %v", err)
	}
	done(o, sealed)
}

func (p *patient) pass(d time.Duration) { p.clock.SetTime(p.clock.Now().Add(d)) }

// down takes it down.
func (p *patient) down(t *testing.T) {
	t.Helper()
	for range inARow {
		p.call(t, Failure)
	}
	if p.View().State != Down {
		t.Fatalf("it is %s after %d failures", p.View().State, inARow)
	}
}

func TestWhatTakesItDown(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, p *patient)
		want State
	}{
		"nothing":              {func(*testing.T, *patient) {}, Serving},
		"failures in a row":    {func(t *testing.T, p *patient) { p.down(t) }, Down},
		"one less":             {func(t *testing.T, p *patient) { repeat(t, p, inARow-1, Failure) }, Serving},
		"a success in between": {func(t *testing.T, p *patient) { repeat(t, p, 4, Failure); p.call(t, Success); repeat(t, p, 4, Failure) }, Serving},
		// Who can make calls that say nothing must neither take it down nor keep it up.
		"what says nothing":                        {func(t *testing.T, p *patient) { repeat(t, p, 100, Nothing) }, Serving},
		"what says nothing between failures":       {func(t *testing.T, p *patient) { repeat(t, p, 4, Failure); repeat(t, p, 9, Nothing); p.call(t, Failure) }, Down},
		"a probe that fails":                       {func(_ *testing.T, p *patient) { p.Probed(sealed) }, Down},
		"a probe that fails while calls succeed":   {func(t *testing.T, p *patient) { p.call(t, Success); p.Probed(sealed) }, Serving},
		"two probes that fail after a success":     {func(t *testing.T, p *patient) { p.call(t, Success); p.Probed(sealed); p.Probed(sealed) }, Down},
		"probes that succeed":                      {func(_ *testing.T, p *patient) { p.Probed(nil); p.Probed(nil) }, Serving},
		"nothing to probe":                         {func(_ *testing.T, p *patient) { p.Try() }, Serving},
		"a failure once a probe succeeded":         {func(t *testing.T, p *patient) { p.down(t); p.Probed(nil); p.call(t, Failure) }, Down},
		"a success once a probe succeeded":         {func(t *testing.T, p *patient) { p.down(t); p.Probed(nil); p.call(t, Success) }, Serving},
		"nothing said once a probe succeeded":      {func(t *testing.T, p *patient) { p.down(t); p.Probed(nil); p.call(t, Nothing) }, Probing},
		"another probe that succeeds":              {func(t *testing.T, p *patient) { p.down(t); p.Probed(nil); p.Probed(nil) }, Serving},
		"another probe that fails":                 {func(t *testing.T, p *patient) { p.down(t); p.Probed(nil); p.Probed(sealed) }, Down},
		"a try":                                    {func(t *testing.T, p *patient) { p.down(t); p.Try(); p.Try() }, Probing},
		"a failure after it is back, once":         {func(t *testing.T, p *patient) { p.down(t); p.Probed(nil); p.call(t, Success); p.call(t, Failure) }, Serving},
		"another probe while a call is on its way": {func(_ *testing.T, p *patient) { p.Probed(sealed); p.Probed(nil); _, _ = p.Begin(); p.Probed(nil) }, Probing},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient()
			c.do(t, p)
			if got := p.View().State; got != c.want {
				t.Errorf("it is %s, want %s", got, c.want)
			}
		})
	}
}

func repeat(t *testing.T, p *patient, n int, o Outcome) {
	t.Helper()
	for range n {
		p.call(t, o)
	}
}

func TestNoCallsWhileDownAndOneWhileProbing(t *testing.T) {
	p := newPatient()
	p.down(t)
	p.pass(time.Hour) // time alone does not let a call through
	var down *DownError
	if _, err := p.Begin(); !errors.As(err, &down) || !errors.Is(err, sealed) || !down.Since.Equal(start) {
		t.Errorf("error %v, want that it is down since %s, and why", err, start)
	}
	p.Probed(nil)
	done, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Begin(); !errors.Is(err, ErrTrying) {
		t.Errorf("a second call while one tries: %v", err)
	}
	done(Success, nil)
	p.call(t, Success)
	if want := []State{Down, Probing, Serving}; !slices.Equal(p.states, want) {
		t.Errorf("told of %v, want %v", p.states, want)
	}
}

// Calls that began before it went down end after it is back, as those do that hang.
func TestLateResultsSayNothing(t *testing.T) {
	p := newPatient()
	var late []func(Outcome, error)
	for range 2 * inARow {
		done, err := p.Begin()
		if err != nil {
			t.Fatal(err)
		}
		late = append(late, done)
	}
	p.down(t)
	p.Probed(nil)
	p.call(t, Success)
	for _, done := range late {
		done(Failure, sealed)
	}
	if v := p.View(); v.State != Serving {
		t.Errorf("it is %s for failures of another time", v.State)
	}
}

func TestPausesGrowAndShrink(t *testing.T) {
	p := newPatient()
	p.down(t)
	pause := func() time.Duration { return p.View().Next.Sub(p.clock.Now()) }
	want := shortest
	for range 8 {
		if got := pause(); got < want || got > want+want/5 {
			t.Errorf("the pause is %s, want %s and up to a fifth more", got, want)
		}
		want = min(2*want, longest)
		p.Probed(sealed)
	}
	p.Probed(nil)
	if got := pause(); got != shortest {
		t.Errorf("%s until it is probed again while it is tried, want %s", got, shortest)
	}
	p.call(t, Failure) // the probe says it is well, and it is not
	if got := pause(); got < longest {
		t.Errorf("the pause is %s, want %s as before", got, longest)
	}
	p.Probed(nil)
	p.call(t, Success)
	if got := pause(); got < every {
		t.Errorf("%s until it is probed while it serves, want %s", got, every)
	}
	p.down(t)
	if got := pause(); got > 2*shortest {
		t.Errorf("the pause is %s after a success, want the shortest", got)
	}
}

func TestPausesAreForgottenAfterAWhile(t *testing.T) {
	for name, c := range map[string]struct {
		served time.Duration
		want   time.Duration
	}{"soon down again": {time.Minute, 8 * time.Second}, "after a long calm": {calm + time.Second, shortest}} {
		t.Run(name, func(t *testing.T) {
			p := newPatient()
			p.Probed(sealed)
			p.Probed(sealed)
			p.Probed(sealed)
			p.Probed(nil)
			p.Probed(nil) // back without a single call
			p.pass(c.served)
			p.Probed(sealed)
			if got := p.View().Next.Sub(p.clock.Now()); got < c.want || got > c.want+c.want/5 {
				t.Errorf("the pause is %s, want %s and up to a fifth more", got, c.want)
			}
		})
	}
}

func TestView(t *testing.T) {
	p := newPatient()
	if v := p.View(); v.State != Serving || !v.First || v.Reason != nil || v.Next.After(start) {
		t.Errorf("at first %+v, want it to serve and to be due for a probe", v)
	}
	p.Probed(nil)
	if v := p.View(); v.Next.Before(start.Add(every)) {
		t.Errorf("the next probe is due at %s", v.Next)
	}
	p.Expedite()
	if v := p.View(); v.Next.After(start) {
		t.Errorf("not due at once but at %s", v.Next)
	}
	p.pass(time.Minute)
	p.Probed(sealed)
	if v := p.View(); v.First || !errors.Is(v.Reason, sealed) || !v.Since.Equal(start.Add(time.Minute)) {
		t.Errorf("once down %+v", v)
	}
	if text := fmt.Sprint(Serving, Down, Probing); text != "Serving Down Probing" {
		t.Errorf("the states are called %s", text)
	}
}

func TestInParallel(t *testing.T) {
	b := New(testingclock.NewFakePassiveClock(start), nil)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for range 200 {
				if done, err := b.Begin(); err == nil {
					done(Outcome(i%3), sealed)
				}
				if i%10 == 0 {
					b.Probed(nil)
				}
				_ = b.View()
			}
		})
	}
	all.Wait()
	b.Probed(nil)
	b.Probed(nil)
	if _, err := b.Begin(); err != nil {
		t.Errorf("after two good probes: %v", err)
	}
}
