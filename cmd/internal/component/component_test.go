// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestPrepareLeavesRoomBelowTheLimitOfMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for limit, want := range map[int64]int64{math.MaxInt64: math.MaxInt64, 512 << 20: (512 << 20) / 10 * 9} {
		debug.SetMemoryLimit(limit)
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("a limit of %d became %d, want %d", limit, got, want)
		}
	}
}
