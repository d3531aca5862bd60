// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// eager is a clock whose timers fire at once.
type eager struct{ *clocktesting.FakeClock }

func (e eager) NewTimer(time.Duration) clock.Timer {
	fired := make(chan time.Time, 1)
	fired <- e.Now()
	return firedTimer{fired}
}

type firedTimer struct{ c chan time.Time }

func (t firedTimer) C() <-chan time.Time      { return t.c }
func (firedTimer) Stop() bool                 { return true }
func (firedTimer) Reset(d time.Duration) bool { return true }
