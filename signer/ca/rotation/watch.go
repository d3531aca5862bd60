// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"time"

	"k8s.io/utils/clock"
)

// Watch tells whether a time has come, by two measures: the time of day, which others set, and how long this process has waited,
// which nobody sets. A clock that jumps ahead while somebody waits so shortens nothing, nor does one that is set back and forth.
// The zero value is ready for use, by one at a time.
type Watch struct {
	until time.Time
	mark  time.Time     // when waiting for that began here
	left  time.Duration // how long it was then
}

// Over reports whether the time has come.
func (w *Watch) Over(clk clock.PassiveClock, until time.Time) bool {
	now := clk.Now()
	if !w.until.Equal(until) {
		*w = Watch{until: until, mark: now, left: until.Sub(now)}
	}
	return !now.Before(until) && clk.Since(w.mark) >= w.left
}
