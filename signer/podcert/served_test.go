// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/ability/abilitytest"
	"github.com/certwright/certwright/api/v1alpha1"
)

type served = abilitytest.Served

func TestServed(t *testing.T) {
	const v1, beta = "certificates.k8s.io/v1", "certificates.k8s.io/v1beta1"
	pods, others := []string{"podcertificaterequests", "podcertificaterequests/status"}, []string{"certificatesigningrequests"}
	for name, c := range map[string]struct {
		api  served
		want Version
		err  bool
	}{
		"v1":                      {served{v1: pods}, V1, false},
		"v1beta1":                 {served{v1: others, beta: pods}, V1Beta1, false},
		"both":                    {served{v1: pods, beta: pods}, V1Beta1, false}, // which shows the older form of the key
		"v1, and another v1beta1": {served{v1: pods, beta: others}, V1, false},
		"neither":                 {served{v1: others}, "", false},
		"trouble":                 {served{v1: nil}, "", true},
	} {
		got, err := Served(ability.Cluster{API: c.api})
		if (err != nil) != c.err || err == nil && got != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestWatchServed(t *testing.T) {
	pods := []string{"podcertificaterequests"}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		cluster := ability.Cluster{API: served{"certificates.k8s.io/v1": pods}}
		if err := WatchServed(ctx, cluster, clock.RealClock{}, ""); !errors.Is(err, ErrChanged) {
			t.Errorf("got %v, want ErrChanged when it is served", err)
		}
		if err := WatchServed(ctx, cluster, clock.RealClock{}, V1); err != nil {
			t.Errorf("got %v, want none as long as nothing changes", err)
		}
	})
}

// A change of a Signer or a policy has those requests looked at that wait for it, and no others.
func TestWaiting(t *testing.T) {
	for _, version := range []Version{V1, V1Beta1} {
		request := asked(podKey, day, false)
		finished := asked(podKey, day, false)
		finished.Name = "req-2"
		condition(finished, "Denied")
		w := newWorld(t, version, nil, in(version, request))
		if version == V1Beta1 {
			w = newWorld(t, version, nil, request, finished)
		}
		signer := func(name string) *v1alpha1.Signer {
			return &v1alpha1.Signer{Spec: v1alpha1.SignerSpec{SignerName: name}}
		}
		policy := func(names ...string) *v1alpha1.CertificatePolicy {
			return &v1alpha1.CertificatePolicy{Spec: v1alpha1.CertificatePolicySpec{SignerNames: names}}
		}
		want := []ctrl.Request{{NamespacedName: ctrl.Request{}.NamespacedName}}
		want[0].Namespace, want[0].Name = "shop", "req-1"
		for name, got := range map[string][]ctrl.Request{
			"its Signer":           w.waiting(t.Context(), signer(signerName)),
			"its policy":           w.waiting(t.Context(), policy("example.com/other", signerName)),
			"the admission policy": w.waiting(t.Context(), &admissionPolicy{}),
		} {
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %v, want %v", version, name, got, want)
			}
		}
		if got := append(w.waiting(t.Context(), signer("example.com/other")), w.waiting(t.Context(), policy("example.com/other"))...); len(got) > 0 {
			t.Errorf("%s: %v are looked at for another Signer", version, got)
		}
	}
}
