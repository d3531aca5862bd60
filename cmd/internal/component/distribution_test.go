// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/trust/distribution"
)

// plain is an API server without ClusterTrustBundles.
type plain struct{}

func (plain) ServerResourcesForGroupVersion(string) (*metav1.APIResourceList, error) {
	return &metav1.APIResourceList{}, nil
}

func TestRunsWhileTheDistributionIsTheSame(t *testing.T) {
	broken := errors.New("the port is taken")
	bundles := distribution.Choice{Way: distribution.ClusterTrustBundle, Version: "v1"}
	configMaps := distribution.Choice{Way: distribution.ConfigMap}
	for name, c := range map[string]struct {
		before distribution.Choice
		run    func(context.Context) error
		want   error
		took   time.Duration
	}{
		"until it changes":         {bundles, func(ctx context.Context) error { <-ctx.Done(); return nil }, distribution.ErrChanged, 10 * time.Minute},
		"until the process ends":   {configMaps, func(ctx context.Context) error { <-ctx.Done(); return nil }, nil, time.Hour},
		"until the component ends": {configMaps, func(context.Context) error { return nil }, nil, 0},
		"until it breaks":          {configMaps, func(context.Context) error { return broken }, broken, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where time passes at once
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				d := trustWay{Choice: c.before, detector: distribution.Detector{Want: distribution.Auto, API: plain{}, Clock: clock.RealClock{}}}
				if err := d.during(ctx, c.run); !errors.Is(err, c.want) || time.Since(start) != c.took {
					t.Errorf("ended after %s with %v, want %v after %s", time.Since(start), err, c.want, c.took)
				}
			})
		})
	}
}
