// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func TestPatience(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(time.Date(2028, 2, 29, 12, 34, 56, 0, time.UTC))
	p := newPatience(clk)
	for _, step := range []struct {
		what  string
		after time.Duration
		name  string
		want  string
		wait  time.Duration
	}{
		{"news", 0, "a", "1", 0},
		{"put back at once", 0, "a", "1", 0},
		{"again too soon", 0, "a", "1", 250 * time.Millisecond},
		{"still too soon", 200 * time.Millisecond, "a", "1", 50 * time.Millisecond},
		{"another object", 0, "b", "1", 0},
		{"in time", 50 * time.Millisecond, "a", "1", 0},
		{"twice as long", 0, "a", "1", 500 * time.Millisecond},
		{"news do not wait", 0, "a", "2", 0},
		{"put back at once after news", 0, "a", "2", 0},
		{"a clock that was set back", -time.Hour, "a", "2", 0},
		{"long after", time.Hour, "a", "2", 0},
		{"it is forgiven", 0, "a", "2", 250 * time.Millisecond},
	} {
		clk.SetTime(clk.Now().Add(step.after))
		if got := p.wait(step.name, step.want); got != step.wait {
			t.Errorf("%s: waits %s, want %s", step.what, got, step.wait)
		}
	}
	p.forget("a")
	p.forget("b")
	if len(p.last) > 0 {
		t.Errorf("it still knows %v", p.last)
	}
}
