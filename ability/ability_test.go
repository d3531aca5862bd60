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

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/ability"
)

// served says which resources an API server has, by group and version; nil is an answer that fails.
type served map[string][]string

func (s served) ServerResourcesForGroupVersion(gv string) (*metav1.APIResourceList, error) {
	names, ok := s[gv]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, gv)
	}
	if names == nil {
		return nil, errors.New("the API server is away")
	}
	list := &metav1.APIResourceList{GroupVersion: gv}
	for _, n := range names {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: n})
	}
	return list, nil
}

// kubelets are the versions of a cluster's kubelets, listed two at a time; an empty one is an answer that fails.
type kubelets []string

func (k kubelets) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("nodes are listed")
}

func (k kubelets) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var options client.ListOptions
	start := 0
	if options.ApplyOptions(opts); options.Continue != "" {
		if _, err := fmt.Sscanf(options.Continue, "from %d", &start); err != nil {
			return err
		}
	}
	nodes := list.(*corev1.NodeList)
	for i, v := range k[start:] {
		if v == "" {
			return errors.New("nodes is forbidden")
		}
		if i == 2 {
			nodes.Continue = fmt.Sprintf("from %d", start+i)
			break
		}
		nodes.Items = append(nodes.Items, corev1.Node{Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: v}}})
	}
	return nil
}

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

// changing is an API server that serves something else each time it is asked, and in the end the last.
type changing struct{ left []served }

func (c *changing) ServerResourcesForGroupVersion(gv string) (*metav1.APIResourceList, error) {
	now := c.left[0]
	if len(c.left) > 1 {
		c.left = c.left[1:]
	}
	return now.ServerResourcesForGroupVersion(gv)
}

func TestWatchPodCertificates(t *testing.T) {
	pods := []string{"podcertificaterequests"}
	for name, c := range map[string]struct {
		api  []served
		took time.Duration
		err  error
	}{
		"a change after two looks and trouble": {[]served{{v1: pods}, {v1: pods}, {v1: nil}, {v1: {}}}, 4 * time.Minute, ability.ErrPodCertificatesChanged},
		"none before the end":                  {[]served{{v1: pods}}, time.Hour, nil},
		"trouble without end":                  {[]served{{v1: nil}}, time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where time passes at once
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				d := ability.PodCertificatesDetector{
					Cluster: ability.Cluster{API: &changing{c.api}, Nodes: kubelets{"v1.37.0"}}, Use: ability.Auto, Clock: clock.RealClock{},
				}
				err := d.Watch(ctx, ability.PodCertificates{Version: "v1", EveryKubelet: true})
				if !errors.Is(err, c.err) || time.Since(start) != c.took {
					t.Errorf("got %v after %s, want %v after %s", err, time.Since(start), c.err, c.took)
				}
				if err != nil && err.Error() != "the way in which kubelets get certificates for pods changed from v1 by every kubelet to none: restarting" {
					t.Errorf("got %v", err)
				}
			})
		})
	}
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
