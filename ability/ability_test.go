// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ability_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/ability/abilitytest"
)

type (
	served   = abilitytest.Served
	kubelets = abilitytest.Kubelets
)

func TestEveryKubelet(t *testing.T) {
	for name, c := range map[string]struct {
		kubelets kubelets
		want     bool
		err      string
	}{
		"all":                 {kubelets{"v1.37.0", "v1.38.0-rc.1+abc", "v1.37.2-eks-1234567", "v2.0.0"}, true, ""},
		"none":                {nil, false, ""},
		"an old one, late":    {kubelets{"v1.37.0", "v1.37.0", "v1.37.0", "v1.36.9"}, false, ""},
		"one without version": {kubelets{"v1.37.0", "new"}, false, ""},
		"a release candidate": {kubelets{"v1.37.0-rc.0"}, true, ""},
		"trouble, late":       {kubelets{"v1.37.0", "v1.37.0", ""}, false, "of version 1.37 or newer: nodes is forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ability.Cluster{Nodes: c.kubelets}.EveryKubelet(t.Context(), version.MajorMinor(1, 37))
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %t, %v", got, err)
			}
		})
	}
}

const v1, v1beta1 = "certificates.k8s.io/v1", "certificates.k8s.io/v1beta1"

func TestDetectPodCertificates(t *testing.T) {
	pods, others := []string{"x", "podcertificaterequests"}, []string{"certificatesigningrequests"}
	fresh, forbidden := kubelets{"v1.37.1"}, kubelets{""}
	for name, c := range map[string]struct {
		api   served
		nodes kubelets
		use   ability.Use
		want  string
		err   string
	}{
		"v1, new kubelets":        {served{v1: pods, v1beta1: pods}, fresh, ability.Auto, "v1 by every kubelet", ""},
		"v1, an old kubelet":      {served{v1: pods}, kubelets{"v1.37.1", "v1.36.9"}, ability.Auto, "v1 by some kubelets", ""},
		"v1beta1":                 {served{v1: others, v1beta1: pods}, forbidden, ability.Auto, "v1beta1 by some kubelets", ""},
		"neither":                 {served{v1: others}, forbidden, ability.Auto, "none", ""},
		"never":                   {served{v1: nil}, forbidden, ability.Never, "none", ""},
		"always, v1":              {served{v1: pods}, forbidden, ability.Always, "v1 by every kubelet", ""},
		"always, v1beta1":         {served{v1beta1: pods}, forbidden, ability.Always, "v1beta1 by every kubelet", ""},
		"always, neither":         {served{v1: others}, forbidden, ability.Always, "", "enable them"},
		"trouble with the API":    {served{v1: nil, v1beta1: pods}, fresh, ability.Auto, "", "the API server is away"},
		"trouble with v1beta1":    {served{v1beta1: nil}, fresh, ability.Auto, "", "the API server is away"},
		"trouble with the nodes":  {served{v1: pods}, forbidden, ability.Auto, "", "nodes is forbidden"},
		"no use of it, by chance": {served{v1: pods}, kubelets{}, ability.Auto, "v1 by some kubelets", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := ability.PodCertificatesDetector{Cluster: ability.Cluster{API: c.api, Nodes: c.nodes}, Use: c.use}
			got, err := d.Detect(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || got != (ability.PodCertificates{}) {
					t.Errorf("got %s, %v, want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil || got.String() != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

// A look each minute: digits are answers, x is trouble.
func TestFollow(t *testing.T) {
	for name, c := range map[string]struct {
		looks  string
		inARow int
		want   string // what is told, and after how many minutes
	}{
		"none":                           {"111111", 1, ""},
		"at once":                        {"1122", 1, "2@3"},
		"each":                           {"212", 1, "2@1 1@2 2@3"},
		"trouble is no answer":           {"x1xx2x", 1, "2@5"},
		"three in a row":                 {"122222", 3, "2@4"},
		"back after two":                 {"122122122", 3, ""},
		"another every time":             {"232323", 3, ""},
		"trouble in between":             {"2x2xx2", 3, "2@6"},
		"another, then three in a row":   {"22333", 3, "3@5"},
		"and back after three in a row":  {"2221212111", 3, "2@3 1@10"},
		"a node that flaps half the day": {strings.Repeat("2222222221", 144), 10, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where time passes at once
				ctx, cancel := context.WithCancel(t.Context())
				start, looks := time.Now(), c.looks
				look := func(context.Context) (byte, error) {
					now := looks[0]
					if looks = looks[1:]; looks == "" {
						cancel()
					}
					if now == 'x' {
						return 0, errors.New("the API server is away")
					}
					return now, nil
				}
				var told []string
				err := ability.Follow(ctx, clock.RealClock{}, '1', look, c.inARow, func(now byte) error {
					told = append(told, fmt.Sprintf("%c@%.0f", now, time.Since(start).Minutes()))
					return nil
				})
				if got := strings.Join(told, " "); err != nil || got != c.want {
					t.Errorf("told %q, %v, want %q", got, err, c.want)
				}
			})
		})
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		what, start := errors.New("the weather changed"), time.Now()
		look := func(context.Context) (string, error) { return "rain", nil }
		err := ability.Watch(t.Context(), clock.RealClock{}, "sun", look, 4, what)
		if !errors.Is(err, what) || err.Error() != "the weather changed from sun to rain: restarting" || time.Since(start) != 4*time.Minute {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}

// A node whose version changes changes what is told, as often as it likes.
func TestFollowPodCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		nodes := kubelets{"v1.37.0"}
		d := ability.PodCertificatesDetector{
			Cluster: ability.Cluster{API: served{v1: {"podcertificaterequests"}}, Nodes: nodes}, Use: ability.Auto, Clock: clock.RealClock{},
		}
		var told []string
		err := d.Follow(ctx, ability.PodCertificates{Version: "v1"}, func(now ability.PodCertificates) {
			told = append(told, now.String())
			nodes[0] = map[string]string{"v1.37.0": "v1.36.0", "v1.36.0": "v1.37.0"}[nodes[0]]
			if len(told) == 3 {
				cancel()
			}
		})
		if got := strings.Join(told, ", "); err != nil || got != "v1 by every kubelet, v1 by some kubelets, v1 by every kubelet" {
			t.Errorf("told %s, %v", got, err)
		}
	})
}

func TestParseUse(t *testing.T) {
	for _, s := range []string{"auto", "always", "never"} {
		if use, err := ability.ParseUse(s); err != nil || string(use) != s {
			t.Errorf("%s: %q, %v", s, use, err)
		}
	}
	for _, s := range []string{"", "on", "v1"} {
		if _, err := ability.ParseUse(s); err == nil || !strings.Contains(err.Error(), "[auto always never]") {
			t.Errorf("%q: %v", s, err)
		}
	}
}
