// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package backoff

import (
	"slices"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := New(time.Second, 5*time.Second, func() float64 { return 0 })
	var got []time.Duration
	for range 4 {
		got = append(got, b.Next())
	}
	b.Reset()
	got = append(got, b.Next())
	if want := []time.Duration{1e9, 2e9, 4e9, 5e9, 1e9}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.jitter = func() float64 { return 1 }
	if got := b.Next(); got != 1600*time.Millisecond {
		t.Errorf("with most jitter %v, want a fifth less than 2s", got)
	}
}
