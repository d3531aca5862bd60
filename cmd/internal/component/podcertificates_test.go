// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/trust"
)

func TestPodCertificatesFlag(t *testing.T) {
	if _, err := detectPodCertificates(t.Context(), &rest.Config{}, nil, "yes"); err == nil || !strings.HasPrefix(err.Error(), `--pod-certificates: use of pod certificates "yes" is not one of`) {
		t.Errorf("got %v", err)
	}
	got, err := detectPodCertificates(t.Context(), &rest.Config{Host: "127.0.0.1:1"}, nil, "never") // asks nobody
	if err != nil || got.PodCertificates != (ability.PodCertificates{}) {
		t.Errorf("got %s, %v", got, err)
	}
}

// What a component was built for ends it when it changes, whichever of the two it is.
func TestRunsWhileKubeletsCanTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where time passes at once
		bundles := distribution{
			Choice:   trust.Choice{Distribution: trust.DistributedConfigMap},
			detector: trust.Detector{Want: trust.Auto, API: plain{}, Clock: clock.RealClock{}},
		}
		pods := podCertificates{
			PodCertificates: ability.PodCertificates{Version: "v1"},
			detector:        ability.PodCertificatesDetector{Cluster: ability.Cluster{API: plain{}}, Use: ability.Auto, Clock: clock.RealClock{}},
		}
		start := time.Now()
		err := bundles.during(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return nil }, pods.watch)
		if err == nil || !strings.Contains(err.Error(), "changed from v1 by some kubelets to none: restarting") || time.Since(start) != time.Minute {
			t.Errorf("ended after %s with %v", time.Since(start), err)
		}
	})
}
