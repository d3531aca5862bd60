// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// TestFloodTakesNoPlacesOfOthers: who is over a quota of their own, or will be, holds no place in a line that others stand in.
func TestFloodTakesNoPlacesOfOthers(t *testing.T) {
	w := newWorld(t)
	quotas := []v1alpha1.Quota{perHour(v1alpha1.PerPolicy, 60, 10), perHour(v1alpha1.PerNamespace, 20, 10)}
	var flood []csr.Request
	for range 2000 {
		flood = append(flood, w.from("shop/web"))
		w.take(flood[len(flood)-1], quotas...)
	}
	// The flood has used up its own tokens and those of all.
	wait := w.take(w.from("bank/web"), quotas...)
	if wait == nil || wait.Ahead != 0 || !wait.Until.Equal(start.Add(time.Minute)) {
		t.Errorf("another namespace waits for the flood: %v", wait)
	}
}

// TestPlacesAreCoveredByNarrowerQuotas: while all wait for the quota of the policy, a namespace stands in line with as many
// requests as it has tokens for.
func TestPlacesAreCoveredByNarrowerQuotas(t *testing.T) {
	w := newWorld(t)
	quotas := []v1alpha1.Quota{perHour(v1alpha1.PerPolicy, 60, 5), perHour(v1alpha1.PerNamespace, 20, 5)}
	if got := w.burst("office/web", quotas...); got != 5 {
		t.Fatalf("%d at once, want 5", got)
	}
	for range 2000 {
		w.take(w.from("shop/web"), quotas...)
	}
	late := w.from("bank/web")
	wait := w.take(late, quotas...)
	if wait == nil || wait.Ahead != 5 || !wait.Until.Equal(start.Add(6*time.Minute)) {
		t.Errorf("another namespace waits for more than the 5 that the flood has tokens for: %v", wait)
	}
	w.after(6 * time.Minute)
	if wait := w.take(late, quotas...); wait != nil && wait.Ahead > 5 {
		t.Errorf("at its time: %s", wait)
	}
}
