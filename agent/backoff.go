// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import "time"

// backoff doubles a pause from first to most and spreads it by up to a fifth, so
// that many agents that met the same trouble do not come back together.
type backoff struct {
	first, most, current time.Duration
	jitter               func() float64
}

func newBackoff(first, most time.Duration, jitter func() float64) *backoff {
	return &backoff{first: first, most: most, jitter: jitter}
}

func (b *backoff) next() time.Duration {
	b.current = min(max(2*b.current, b.first), b.most)
	return b.current - time.Duration(b.jitter()*float64(b.current)/5)
}

func (b *backoff) reset() { b.current = 0 }
