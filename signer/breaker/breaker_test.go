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
	start     = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	errSealed = errors.New("503 sealed")
)

// subject is a Breaker with its clock, and the states that it came to.
type subject struct {
	*Breaker
	clock  *testingclock.FakePassiveClock
	states []State
}

func newSubject() *subject {
	p := &subject{clock: testingclock.NewFakePassiveClock(start)}
	p.Breaker = New(p.clock, func(_, to State) { p.states = append(p.states, to) })
	return p
}

// call makes a call, which must be let through.
func (p *subject) call(t *testing.T, o Outcome) {
	t.Helper()
	done, err := p.Begin()
	if err != nil {
		t.Fatalf("the call is not let through: %v", err)
	}
	done(o, errSealed)
}

func (p *subject) pass(d time.Duration) { p.clock.SetTime(p.clock.Now().Add(d)) }

// down takes it down.
func (p *subject) down(t *testing.T) {
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
		do   func(t *testing.T, p *subject)
		want State
	}{
		"nothing":              {func(*testing.T, *subject) {}, Serving},
		"failures in a row":    {func(t *testing.T, p *subject) { p.down(t) }, Down},
		"one less":             {func(t *testing.T, p *subject) { repeat(t, p, inARow-1, Failure) }, Serving},
		"a success in between": {func(t *testing.T, p *subject) { repeat(t, p, 4, Failure); p.call(t, Success); repeat(t, p, 4, Failure) }, Serving},
		// Who can make calls that say nothing must neither take it down nor keep it up.
		"what says nothing":                        {func(t *testing.T, p *subject) { repeat(t, p, 100, Nothing) }, Serving},
		"what says nothing between failures":       {func(t *testing.T, p *subject) { repeat(t, p, 4, Failure); repeat(t, p, 9, Nothing); p.call(t, Failure) }, Down},
		"a probe that fails":                       {func(_ *testing.T, p *subject) { p.Probed(errSealed) }, Down},
		"a probe that fails while calls succeed":   {func(t *testing.T, p *subject) { p.call(t, Success); p.Probed(errSealed) }, Serving},
		"two probes that fail after a success":     {func(t *testing.T, p *subject) { p.call(t, Success); p.Probed(errSealed); p.Probed(errSealed) }, Down},
		"probes that succeed":                      {func(_ *testing.T, p *subject) { p.Probed(nil); p.Probed(nil) }, Serving},
		"nothing to probe":                         {func(_ *testing.T, p *subject) { p.Try() }, Serving},
		"a failure once a probe succeeded":         {func(t *testing.T, p *subject) { p.down(t); p.Probed(nil); p.call(t, Failure) }, Down},
		"a success once a probe succeeded":         {func(t *testing.T, p *subject) { p.down(t); p.Probed(nil); p.call(t, Success) }, Serving},
		"nothing said once a probe succeeded":      {func(t *testing.T, p *subject) { p.down(t); p.Probed(nil); p.call(t, Nothing) }, Probing},
		"another probe that succeeds":              {func(t *testing.T, p *subject) { p.down(t); p.Probed(nil); p.Probed(nil) }, Serving},
		"another probe that fails":                 {func(t *testing.T, p *subject) { p.down(t); p.Probed(nil); p.Probed(errSealed) }, Down},
		"a try":                                    {func(t *testing.T, p *subject) { p.down(t); p.Try(); p.Try() }, Probing},
		"a failure after it is back, once":         {func(t *testing.T, p *subject) { p.down(t); p.Probed(nil); p.call(t, Success); p.call(t, Failure) }, Serving},
		"another probe while a call is on its way": {func(_ *testing.T, p *subject) { p.Probed(errSealed); p.Probed(nil); _, _ = p.Begin(); p.Probed(nil) }, Probing},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSubject()
			c.do(t, p)
			if got := p.View().State; got != c.want {
				t.Errorf("it is %s, want %s", got, c.want)
			}
		})
	}
}

func repeat(t *testing.T, p *subject, n int, o Outcome) {
	t.Helper()
	for range n {
		p.call(t, o)
	}
}

func TestNoCallsWhileDownAndOneWhileProbing(t *testing.T) {
	p := newSubject()
	p.down(t)
	p.pass(time.Hour) // time alone does not let a call through
	var down *DownError
	if _, err := p.Begin(); !errors.As(err, &down) || !errors.Is(down.Reason, errSealed) || errors.Is(err, errSealed) || !down.Since.Equal(start) {
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

// Orders that are pending say nothing for long, and one is always being tried while many wait.
func TestCallsThatSayNothingDoNotKeepItProbing(t *testing.T) {
	for name, c := range map[string]struct {
		outcome Outcome
		want    State
	}{"nothing": {Nothing, Serving}, "success": {Success, Serving}, "failure": {Failure, Down}} {
		t.Run(name, func(t *testing.T) {
			p := newSubject()
			p.Probed(errSealed)
			p.Probed(nil)
			done, err := p.Begin()
			if err != nil {
				t.Fatal(err)
			}
			p.pass(shortest)
			p.Probed(nil) // while a call is on its way
			if v := p.View(); v.State != Probing || !v.Next.After(p.clock.Now()) {
				t.Fatalf("it is %s, and probed again at %s", v.State, v.Next)
			}
			done(c.outcome, errSealed)
			if got := p.View().State; got != c.want {
				t.Errorf("it is %s, want %s", got, c.want)
			}
		})
	}
}

// Calls that began before it went down end after it is back, as those do that hang.
func TestLateResultsSayNothing(t *testing.T) {
	p := newSubject()
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
		done(Failure, errSealed)
	}
	if v := p.View(); v.State != Serving {
		t.Errorf("it is %s for failures of another time", v.State)
	}
}

func TestPausesGrowAndShrink(t *testing.T) {
	p := newSubject()
	wants := func(want time.Duration) {
		t.Helper()
		if got := p.View().Next.Sub(p.clock.Now()); got < want || got > want+want/5 {
			t.Errorf("the pause is %s, want %s and up to a fifth more", got, want)
		}
	}
	p.down(t)
	for _, want := range []time.Duration{1, 2, 4, 5, 5} { // probes cost nobody anything
		wants(want * time.Second)
		p.Probed(errSealed)
	}
	for _, want := range []time.Duration{10, 20, 30, 30} { // the probe says it is well, and it is not
		p.Probed(nil)
		wants(shortest)
		p.call(t, Failure)
		wants(want * time.Second)
	}
	p.Probed(errSealed)
	wants(longest)
	p.Probed(nil)
	p.call(t, Success)
	wants(every)
	p.down(t)
	wants(shortest)
}

func TestPausesAreForgottenAfterAWhile(t *testing.T) {
	for name, c := range map[string]struct {
		served time.Duration
		want   time.Duration
	}{"soon down again": {time.Minute, 8 * time.Second}, "after a long calm": {calm + time.Second, shortest}} {
		t.Run(name, func(t *testing.T) {
			p := newSubject()
			p.Probed(errSealed)
			p.Probed(errSealed)
			p.Probed(errSealed)
			p.Probed(nil)
			p.Probed(nil) // back without a single call
			p.pass(c.served)
			p.Probed(errSealed)
			if got := p.View().Next.Sub(p.clock.Now()); got < c.want || got > c.want+c.want/5 {
				t.Errorf("the pause is %s, want %s and up to a fifth more", got, c.want)
			}
		})
	}
}

func TestView(t *testing.T) {
	p := newSubject()
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
	p.Probed(errSealed)
	if v := p.View(); v.First || !errors.Is(v.Reason, errSealed) || !v.Since.Equal(start.Add(time.Minute)) {
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
					done(Outcome(i%3), errSealed)
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
