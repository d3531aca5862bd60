// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/server"
)

const (
	// ordersPerSecond and ordersAtOnce are how fast an account makes new orders.
	ordersPerSecond = 20
	ordersAtOnce    = 40

	// firstSlowdown and maxSlowdown bound how long an account makes no orders after the server refused one for a rate limit.
	// The limit may be one on the names of that order alone: the order itself waits as long as the server says (RFC 8555,
	// section 6.6: "when the current request may succeed again"), but the others may not have to, or whoever orders the same
	// names too often would stop everyone. Each refusal in a row doubles the pause.
	firstSlowdown = time.Second
	maxSlowdown   = time.Minute

	// maxLimits is how often in a row a server may want to be left alone until other backends are asked.
	maxLimits = 3
)

// queue is that of an account: it says who may ask the server, and when. It is safe for concurrent use.
type queue struct {
	clock clock.PassiveClock
	pace  *rate.Limiter

	mu       sync.Mutex
	silent   time.Time     // nothing is asked before
	why      *server.Error // as the server said so
	limits   int           // on asking anything at all, in a row
	slow     time.Time     // nothing is ordered before
	refusals int           // for a rate limit, in a row
}

// turn returns when the next new order may be made. Every call takes the next place.
func (q *queue) turn() time.Time {
	now := q.clock.Now()
	q.mu.Lock()
	start := later(now, q.slow)
	q.mu.Unlock()
	return start.Add(q.pace.ReserveN(start, 1).DelayFrom(start))
}

// heed keeps the account from asking anything while the server wants to be left alone, and returns what went wrong: trouble, or
// for a limit that ends soon a *signer.PendingError.
func (q *queue) heed(err error) error {
	var e *server.Error
	if !errors.As(err, &e) {
		return err
	}
	wait := e.RetryAfter
	if wait <= 0 && e.Fault == server.FaultLimit {
		wait = maxSlowdown
	}
	if wait <= 0 || e.Fault != server.FaultLimit && e.Fault != server.FaultServer {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Fault == server.FaultLimit && !q.silent.After(q.clock.Now()) {
		q.limits++
	}
	q.silent, q.why = later(q.silent, q.clock.Now().Add(wait)), e
	return q.silence()
}

// mayAsk returns nil if the server may be asked now, or what heed returned, as long as that lasts.
func (q *queue) mayAsk() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.silent.After(q.clock.Now()) {
		return nil
	}
	return q.silence()
}

// silence is why nothing is asked. The lock is held.
func (q *queue) silence() error {
	wait := q.silent.Sub(q.clock.Now())
	if q.why.Fault == server.FaultLimit && wait <= longWait && q.limits < maxLimits {
		return &signer.PendingError{After: wait, Reason: q.why.Error()}
	}
	return fmt.Errorf("the server wants to be left alone for another %s: %w", wait.Round(time.Second), q.why)
}

// answered ends a row of limits.
func (q *queue) answered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = 0
}

// slowed returns how long nothing may be ordered.
func (q *queue) slowed() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(q.slow.Sub(q.clock.Now()), 0)
}

// refused slows orders down after one that a rate limit refused.
func (q *queue) refused(after time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := min(firstSlowdown<<min(q.refusals, 10), maxSlowdown)
	if after > 0 {
		wait = min(wait, after)
	}
	q.refusals++
	q.slow = later(q.slow, q.clock.Now().Add(wait))
}

// ordered ends a row of refusals.
func (q *queue) ordered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refusals = 0
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
