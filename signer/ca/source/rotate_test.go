// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca/rotation"
)

func TestLookAgain(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	publishing := func(since, published time.Duration) rotation.State {
		s := rotation.State{Phase: v1alpha1.RotationPublishing, Since: now.Add(-since)}
		if published != 0 {
			s.Published = now.Add(-published)
		}
		return s
	}
	for name, c := range map[string]struct {
		state rotation.State
		want  time.Time
	}{
		"not seen yet":      {publishing(time.Second, 0), now},
		"not seen for long": {publishing(2*time.Minute, 0), time.Time{}},
		"to come":           {publishing(time.Hour, time.Minute), now.Add(59 * time.Minute)},
		"late":              {publishing(2*time.Hour, time.Hour+time.Second), now.Add(-time.Second)},
		"late for long":     {publishing(3*time.Hour, 2*time.Hour), time.Time{}},
		"nothing is late":   {rotation.State{}, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lookAgain(c.state, rotation.Facts{Now: now, Propagation: time.Hour}); !got.Equal(c.want) {
				t.Errorf("at %s, want %s", got, c.want)
			}
		})
	}
}
