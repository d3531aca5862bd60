// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package breaker takes what keeps failing out of service and lets it back when it is well. It differs from the circuit breakers
// of libraries in who pays for finding out: probes come from outside, at times that the breaker names, and no call is made to
// something that is down just because time has passed.
//
//	Serving ──(failures in a row, or a probe that fails while no call succeeds)──▶ Down
//	Down ──(a probe that succeeds)──▶ Probing ──(a call or another probe that succeeds)──▶ Serving
//	Probing ──(a call or a probe that fails)──▶ Down, with a longer pause until the next probe
package breaker

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
)

// State says whether calls may be made.
type State int

// The states of a Breaker.
const (
	// Serving lets all calls through.
	Serving State = iota
	// Down lets none through.
	Down
	// Probing lets one through at a time.
	Probing
)

func (s State) String() string { return [...]string{"Serving", "Down", "Probing"}[s] }

// Outcome is what a call says about what was called.
type Outcome int

// The outcomes of a call.
const (
	// Nothing is said: such as when the caller gave up, or was to blame.
	Nothing Outcome = iota
	// Success did what was asked for.
	Success
	// Failure did not, for a reason that others would meet too.
	Failure
)

const (
	// inARow is how many failures without a success between them take it down.
	inARow = 5
	// shortest is the first pause before a probe of what is down. It doubles with each probe that fails, up to patient, and with each call
	// that fails although a probe had succeeded, up to longest: that one somebody waited for. It is jittered by up to a fifth, so that
	// many who wait do not come at once.
	shortest = time.Second
	patient  = 5 * time.Second
	longest  = 30 * time.Second
	jitter   = 0.2
	// every is how often that which serves is probed.
	every = time.Minute
	// calm is how long it must serve for its pauses to begin at the shortest again.
	calm = 5 * time.Minute
)

// ErrTrying is returned for calls to something that is being tried by another one.
var ErrTrying = errors.New("it was down and is being tried by another request")

// DownError is returned for calls to something that is down. It does not wrap the reason, which was about another call.
type DownError struct {
	Since time.Time
	// Reason is the error that took it down, or of the last probe.
	Reason error
}

func (e *DownError) Error() string {
	return fmt.Sprintf("down since %s: %v", e.Since.UTC().Format(time.RFC3339), e.Reason)
}

// Breaker stands before one thing that may fail. It is safe for concurrent use.
type Breaker struct {
	clock    clock.PassiveClock
	onChange func(from, to State)

	mu    sync.Mutex
	state State
	since time.Time
	// reason is why it is not serving, or what the last probe said.
	reason error
	// turn counts the changes of state, so that calls which began before one say nothing about what came after.
	turn     int
	failures int
	// succeeded is true if a call succeeded since the last probe. While Probing, trying is true if a call is on its way, and well if
	// a probe succeeded meanwhile.
	succeeded, trying, well bool
	pause                   time.Duration
	next                    time.Time
}

// New returns a Breaker that serves and is due for a probe. The function, which may be nil, is called at each change of state; it
// must not call the Breaker.
func New(clk clock.PassiveClock, onChange func(from, to State)) *Breaker {
	if onChange == nil {
		onChange = func(State, State) {}
	}
	now := clk.Now()
	return &Breaker{clock: clk, onChange: onChange, since: now, next: now}
}

// Begin asks whether a call may be made now. If so, done must be called with what came of it. If not, the error is a *DownError or
// ErrTrying.
func (b *Breaker) Begin() (done func(Outcome, error), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.state == Down:
		return nil, &DownError{Since: b.since, Reason: b.reason}
	case b.state == Probing && b.trying:
		return nil, ErrTrying
	}
	b.trying = b.state == Probing
	turn := b.turn
	return func(o Outcome, err error) { b.done(turn, o, err) }, nil
}

func (b *Breaker) done(turn int, o Outcome, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if turn != b.turn {
		return
	}
	b.trying = false
	switch o {
	case Success:
		b.succeeded, b.failures, b.pause = true, 0, 0
		if b.state == Probing {
			b.become(Serving, nil)
		}
	case Failure:
		if b.failures++; b.state == Probing || b.failures >= inARow {
			b.become(Down, err)
		}
	case Nothing:
		if b.well { // else one call after the other that says nothing could keep it from the others
			b.become(Serving, nil)
		}
	}
}

// Probed tells what a probe found. One failure while calls succeed is remembered, and the next probe comes soon.
func (b *Breaker) Probed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	succeeded := b.succeeded
	b.succeeded = false
	switch {
	case err == nil && b.state == Serving:
		b.reason, b.next = nil, b.clock.Now().Add(wait.Jitter(every, jitter))
	case err == nil && b.state == Down:
		b.become(Probing, b.reason)
	case err == nil && b.trying:
		b.well, b.next = true, b.clock.Now().Add(shortest)
	case err == nil:
		b.become(Serving, nil)
	case b.state == Serving && succeeded:
		b.reason, b.next = err, b.clock.Now().Add(shortest)
	case b.state == Down:
		b.reason = err
		b.wait(patient)
	default:
		b.become(Down, err)
	}
}

// Try lets one call at a time through to what is down, for that which no probe can be made of. It returns to Serving only by a call
// that succeeds.
func (b *Breaker) Try() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case Down:
		b.become(Probing, b.reason)
	case Serving, Probing:
		b.next = b.clock.Now().Add(every)
	}
}

// Expedite makes a probe due now.
func (b *Breaker) Expedite() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = b.clock.Now()
}

// become changes the state and says when the next probe is due.
func (b *Breaker) become(s State, reason error) {
	from, now := b.state, b.clock.Now()
	served := now.Sub(b.since)
	b.state, b.since, b.reason, b.failures, b.trying, b.well = s, now, reason, 0, false, false
	b.turn++
	switch s {
	case Serving:
		b.next = now.Add(wait.Jitter(every, jitter))
	case Probing:
		b.next = now.Add(shortest)
	case Down:
		if from == Serving && served > calm {
			b.pause = 0
		}
		b.wait(longest)
	}
	b.onChange(from, s)
}

// wait makes the pause longer, unless it has reached the limit, and has the next probe come after it.
func (b *Breaker) wait(limit time.Duration) {
	b.pause = max(b.pause, min(max(2*b.pause, shortest), limit))
	b.next = b.clock.Now().Add(wait.Jitter(b.pause, jitter))
}

// View is what is known at one moment.
type View struct {
	State State
	// Since is when the state became what it is; First is true if that is since the Breaker was made.
	Since time.Time
	First bool
	// Reason is why it is not serving, or what the last probe said while calls succeeded; nil if all is well.
	Reason error
	// Next is when the next probe is due.
	Next time.Time
}

// View returns what is known now.
func (b *Breaker) View() View {
	b.mu.Lock()
	defer b.mu.Unlock()
	return View{State: b.state, Since: b.since, First: b.turn == 0, Reason: b.reason, Next: b.next}
}
