// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backoff is how long the agent waits before it tries something again.
package backoff

import "time"

// Backoff doubles a pause from first to most and spreads it by up to a fifth, so
// that many agents that met the same trouble do not come back together.
type Backoff struct {
	first, most, current time.Duration
	jitter               func() float64
}

// New returns a Backoff whose first pause is about first. jitter returns numbers in [0, 1).
func New(first, most time.Duration, jitter func() float64) *Backoff {
	return &Backoff{first: first, most: most, jitter: jitter}
}

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	b.current = min(max(2*b.current, b.first), b.most)
	return b.current - time.Duration(b.jitter()*float64(b.current)/5)
}

// Reset has the pauses start anew.
func (b *Backoff) Reset() { b.current = 0 }
