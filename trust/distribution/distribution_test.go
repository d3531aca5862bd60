// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package distribution_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/ability/abilitytest"
	"github.com/certwright/certwright/trust/distribution"
)

type (
	served   = abilitytest.Served
	kubelets = abilitytest.Kubelets
)

const v1, v1beta1 = "certificates.k8s.io/v1", "certificates.k8s.io/v1beta1"

var (
	csrs = []string{"certificatesigningrequests"}
	both = []string{"certificatesigningrequests", "clustertrustbundles"}
)

func TestDetect(t *testing.T) {
	bundles := func(version string) distribution.Choice {
		return distribution.Choice{Way: distribution.ClusterTrustBundle, Version: version}
	}
	configMaps := distribution.Choice{Way: distribution.ConfigMap}
	fresh := kubelets{"v1.37.0"}
	for name, c := range map[string]struct {
		api   served
		nodes kubelets
		want  distribution.Way
		got   distribution.Choice
		err   string
	}{
		"v1, new kubelets":              {served{v1: both, v1beta1: both}, kubelets{"v1.37.1", "v1.38.0-rc.1+abc", "v1.37.2-eks-1234567", "v2.0.0", "v1.37.0"}, distribution.Auto, bundles("v1"), ""},
		"one old kubelet":               {served{v1: both}, kubelets{"v1.37.1", "v1.36.9"}, distribution.Auto, configMaps, ""},
		"an old kubelet on a last page": {served{v1: both}, kubelets{"v1.37.1", "v1.37.1", "v1.37.1", "v1.37.1", "v1.36.9"}, distribution.Auto, configMaps, ""},
		"a kubelet of no version":       {served{v1: both}, kubelets{"v1.37.1", "unknown"}, distribution.Auto, configMaps, ""},
		"no nodes yet":                  {served{v1: both}, nil, distribution.Auto, configMaps, ""},
		"v1beta1 only":                  {served{v1: csrs, v1beta1: both}, fresh, distribution.Auto, configMaps, ""},
		"neither":                       {served{v1: csrs}, fresh, distribution.Auto, configMaps, ""},
		"asked for, not served":         {served{v1: csrs}, fresh, distribution.ClusterTrustBundle, distribution.Choice{}, "enable them"},
		"asked for, v1beta1":            {served{v1: csrs, v1beta1: both}, fresh, distribution.ClusterTrustBundle, bundles("v1beta1"), ""},
		"asked for, old kubelets":       {served{v1: both, v1beta1: both}, kubelets{"v1.36.9"}, distribution.ClusterTrustBundle, bundles("v1"), ""},
		"asked for, nodes forbidden":    {served{v1: both}, kubelets{""}, distribution.ClusterTrustBundle, bundles("v1"), ""},
		"ConfigMaps asked for":          {served{v1: both}, fresh, distribution.ConfigMap, configMaps, ""},
		"trouble":                       {served{v1: nil}, fresh, distribution.Auto, distribution.Choice{}, "the API server is away"},
		"trouble with v1beta1":          {served{v1: csrs, v1beta1: nil}, fresh, distribution.ClusterTrustBundle, distribution.Choice{}, "the API server is away"},
		"trouble with nodes":            {served{v1: both}, kubelets{"v1.37.1", "v1.37.1", "v1.37.1", ""}, distribution.Auto, distribution.Choice{}, "nodes is forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := distribution.Detector{Want: c.want, API: c.api, Nodes: c.nodes}.Detect(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %s, %v, want an error with %q", got, err, c.err)
				}
				return
			}
			if got != c.got || err != nil {
				t.Errorf("got %s, %v, want %s", got, err, c.got)
			}
		})
	}
}

// changing is an API server that serves something else each time it is asked, and in the end the last.
type changing struct{ left []served }

func (c *changing) ServerResourcesForGroupVersion(gv string) (*metav1.APIResourceList, error) {
	now := c.left[0]
	if len(c.left) > 1 {
		c.left = c.left[1:]
	}
	return now.ServerResourcesForGroupVersion(gv)
}

func TestWatch(t *testing.T) {
	for name, c := range map[string]struct {
		api  []served
		took time.Duration
		err  error
	}{
		"a change after two looks and trouble": {[]served{{v1: both}, {v1: both}, {v1: nil}, {v1: csrs}}, 13 * time.Minute, distribution.ErrChanged},
		"back in the tenth minute":             {append(slices.Repeat([]served{{v1: csrs}}, 9), served{v1: both}), time.Hour, nil},
		"none before the end":                  {[]served{{v1: both}}, time.Hour, nil},
		"trouble without end":                  {[]served{{v1: nil}}, time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where time passes at once
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				d := distribution.Detector{Want: distribution.Auto, API: &changing{c.api}, Nodes: kubelets{"v1.37.0"}, Clock: clock.RealClock{}}
				err := d.Watch(ctx, distribution.Choice{Way: distribution.ClusterTrustBundle, Version: "v1"})
				if !errors.Is(err, c.err) || time.Since(start) != c.took {
					t.Errorf("got %v after %s, want %v after %s", err, time.Since(start), c.err, c.took)
				}
				if err != nil && err.Error() != "the way in which trust bundles reach pods changed from clustertrustbundle/v1 to configmap: restarting" {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestParse(t *testing.T) {
	for _, s := range []string{"auto", "clustertrustbundle", "configmap"} {
		if d, err := distribution.Parse(s); err != nil || string(d) != s {
			t.Errorf("%s: %q, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "ConfigMap"} {
		if _, err := distribution.Parse(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
