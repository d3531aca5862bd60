// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"context"
	"strings"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
)

func TestSubjects(t *testing.T) {
	all := []string{"shop/web/pod-1", "shop/web/pod-2", "shop/api/pod-3", "bank/web/pod-4", "bank/web", "alice", "bob"}
	for per, want := range map[v1alpha1.QuotaSubject]int{
		v1alpha1.PerPolicy:         1, // all together
		v1alpha1.PerNamespace:      4, // shop, bank, alice, bob
		v1alpha1.PerServiceAccount: 5, // shop/web, shop/api, bank/web, alice, bob
		v1alpha1.PerPod:            7,
	} {
		t.Run(string(per), func(t *testing.T) {
			w := newWorld(t)
			got := 0
			for _, who := range all {
				got += w.burst(who, perHour(per, 1, 1))
			}
			if got != want {
				t.Errorf("%d of %v are let through, want %d", got, all, want)
			}
		})
	}
	t.Run("names that look alike", func(t *testing.T) {
		w := newWorld(t)
		for _, who := range []string{"shop/web", "shop", "pod-1-uid", "shop/web/pod-1", ""} {
			for _, per := range []v1alpha1.QuotaSubject{v1alpha1.PerNamespace, v1alpha1.PerPod} {
				if wait := w.take(w.from(who), perHour(per, 1, 1)); (wait != nil) != (who == "shop/web/pod-1" && per == v1alpha1.PerNamespace) {
					t.Errorf("%q per %s: %v", who, per, wait)
				}
			}
		}
	})
	t.Run("policies", func(t *testing.T) {
		w := newWorld(t)
		w.burst("alice", perHour(v1alpha1.PerPolicy, 1, 1))
		if wait, err := w.Take(context.Background(), w.from("alice"), "other", []v1alpha1.Quota{perHour(v1alpha1.PerPolicy, 1, 1)}); wait != nil || err != nil {
			t.Errorf("another policy: %v, %v", wait, err)
		}
	})
}

func TestMessages(t *testing.T) {
	w := newWorld(t)
	w.take(w.from("shop/web"), perHour(v1alpha1.PerNamespace, 1, 1))
	want := `CertificatePolicy "p" approves at most 1 requests in 1h0m0s for each Namespace, and namespace "shop" has used them up. ` +
		"The request waits until 2026-05-04T04:02:01Z at least; requests ahead of it: 0."
	if got := w.take(w.from("shop/web"), perHour(v1alpha1.PerNamespace, 1, 1)).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.take(w.from("shop/web"), perHour(v1alpha1.PerPolicy, 1, 1))
	if got := w.take(w.from("shop/web"), perHour(v1alpha1.PerPolicy, 1, 1)).String(); !strings.Contains(got, "for each Policy, and everybody together has used them up") {
		t.Errorf("got %s", got)
	}
	hostile := w.from("a\x1b[2J\nb")
	w.unfinished = []Approval{{UID: "x", Requester: hostile.Requester}}
	want = `CertificatePolicy "p" has at most 1 unfinished requests for each Pod, and user "a\x1b[2J\nb" has as many. ` +
		"The request waits until 2026-05-04T03:02:11Z at least; requests ahead of it: 0."
	if got := w.take(hostile, pendingOf(v1alpha1.PerPod, 1)).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
