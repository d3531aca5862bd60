// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

func TestBucket(t *testing.T) {
	w := newWorld(t)
	q := perHour(v1alpha1.PerPolicy, 60, 3)
	for i := range 3 {
		if wait := w.take(w.from("alice"), q); wait != nil {
			t.Fatalf("request %d: %s", i, wait)
		}
	}
	late := w.from("alice")
	wait := w.take(late, q)
	if wait == nil || !wait.Until.Equal(start.Add(time.Minute)) || !wait.Again.Equal(wait.Until) || wait.Full || wait.Ahead != 0 {
		t.Fatalf("got %+v, want to wait a minute", wait)
	}
	w.after(time.Minute - time.Second)
	if w.take(late, q) == nil {
		t.Error("a moment before its time it is let through")
	}
	w.after(time.Minute)
	if wait := w.take(late, q); wait != nil {
		t.Errorf("at its time: %s", wait)
	}
	w.after(10 * time.Hour)
	if got := w.burst("alice", q); got != 3 {
		t.Errorf("%d at once after a long time, want 3", got)
	}
}

func TestNothingIsSpentIfOneOfTheQuotasRefuses(t *testing.T) {
	w := newWorld(t)
	wide, narrow := perHour(v1alpha1.PerPolicy, 100, 5), perHour(v1alpha1.PerNamespace, 1, 1)
	if got := w.burst("shop/web", wide, narrow); got != 1 {
		t.Fatalf("%d at once, want 1", got)
	}
	for range 20 {
		w.take(w.from("shop/web"), wide, narrow)
	}
	if got := w.burst("alice", wide); got != 4 {
		t.Errorf("%d of the policy's are left, want 4", got)
	}
	wait := w.take(w.from("shop/web"), narrow, wide)
	if wait == nil || wait.Quota.Per != v1alpha1.PerNamespace {
		t.Errorf("got %v, want the quota that takes longer", wait)
	}
}

func TestReturn(t *testing.T) {
	w := newWorld(t)
	q := v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 1, Burst: 1, MaxPending: 1, Period: metav1.Duration{Duration: time.Hour}}
	first := w.from("alice")
	w.undecided[first.UID] = true
	for i := range 3 {
		if wait := w.take(first, q); wait != nil {
			t.Fatalf("time %d: %s", i, wait)
		}
		w.Return(first, "p", []v1alpha1.Quota{q})
	}
	w.Return(first, "p", []v1alpha1.Quota{q})
	w.Return(first, "unknown", []v1alpha1.Quota{q})
	if got := w.burst("alice", q); got != 1 {
		t.Errorf("%d at once, want the 1 that the bucket holds", got)
	}
}

// Those who wait are let through in the order in which they came, each at the time that it was told.
func TestLine(t *testing.T) {
	w := newWorld(t)
	q := perHour(v1alpha1.PerPolicy, 60, 1)
	w.take(w.from("alice"), q)
	var line []csr.Request
	for i := range 5 {
		line = append(line, w.from("alice"))
		if wait := w.take(line[i], q); wait.Ahead != i || !wait.Until.Equal(start.Add(time.Duration(i+1)*time.Minute)) {
			t.Errorf("request %d: %s", i, wait)
		}
	}
	for range 3 { // asking again moves nobody
		for _, i := range []int{0, 4} {
			if wait := w.take(line[i], q); wait.Ahead != i || !wait.Until.Equal(start.Add(time.Duration(i+1)*time.Minute)) {
				t.Error(wait)
			}
		}
	}
	w.after(time.Minute)
	if wait := w.take(w.from("alice"), q); wait == nil || wait.Ahead != 5 {
		t.Errorf("a newcomer jumps the line: %v", wait)
	}
	for i, req := range line {
		w.after(time.Duration(i+1) * time.Minute)
		if wait := w.take(req, q); wait != nil {
			t.Errorf("request %d at its time: %s", i, wait)
		}
	}
}

func TestPlacesOfThoseWhoDoNotComeGetFree(t *testing.T) {
	w := newWorld(t)
	q := perHour(v1alpha1.PerPolicy, 1, 1)
	w.take(w.from("alice"), q)
	for range 50 {
		w.take(w.from("alice"), q)
	}
	if wait := w.take(w.from("alice"), q); wait.Ahead != 50 || !wait.Again.Equal(start.Add(time.Hour)) || !wait.Until.Equal(start.Add(51*time.Hour)) {
		t.Fatal(wait)
	}
	w.after(time.Hour + grace)
	if wait := w.take(w.from("alice"), q); wait == nil {
		t.Error("places are not kept long enough")
	}
	w.after(time.Hour + 2*grace + time.Second)
	if wait := w.take(w.from("alice"), q); wait == nil || wait.Ahead != 1 {
		t.Errorf("got %v, want only the last one ahead", wait)
	}
}

func TestLineIsBounded(t *testing.T) {
	w := newWorld(t)
	q := perHour(v1alpha1.PerPolicy, 1, 1)
	for range maxLine + 10 {
		w.take(w.from("alice"), q)
	}
	if wait := w.take(w.from("alice"), q); wait.Ahead != maxLine {
		t.Errorf("%d ahead, want %d", wait.Ahead, maxLine)
	}
}

// No time is beyond what can be told.
func TestExtremes(t *testing.T) {
	for name, q := range map[string]v1alpha1.Quota{
		"slow": {Per: v1alpha1.PerPolicy, Requests: 1, Burst: 1, Period: metav1.Duration{Duration: 720 * time.Hour}},
		"fast": {Per: v1alpha1.PerPolicy, Requests: 1<<31 - 1, Burst: 1, Period: metav1.Duration{Duration: time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.take(w.from("alice"), q)
			for range 500 {
				if wait := w.take(w.from("alice"), q); wait == nil || !wait.Until.After(start) || wait.Again.After(start.Add(time.Hour)) {
					t.Fatal(wait)
				}
			}
		})
	}
}

func TestBucketsAfterARestart(t *testing.T) {
	w := newWorld(t)
	for i, who := range []string{"shop/web", "shop/api", "shop/web/pod-1", "bank/web"} { // not in order of time
		w.approvals = append(w.approvals, Approval{UID: types.UID(fmt.Sprint(i)), Requester: requester(who), At: start.Add(-time.Duration(i) * time.Minute)})
	}
	q := perHour(v1alpha1.PerNamespace, 6, 4)
	if got := w.burst("shop/web", q); got != 1 { // 3 of 4 are spent, and in two minutes only a fifth of a token came back
		t.Errorf("shop has %d left, want 1", got)
	}
	if got := w.burst("bank/web", q); got != 3 {
		t.Errorf("bank has %d left, want 3", got)
	}
	if got := w.burst("alice", q); got != 4 {
		t.Errorf("alice has %d left, want 4", got)
	}
	if w.asked["Approvals"] != 1 {
		t.Errorf("listed %d times, want once", w.asked["Approvals"])
	}
	if got := w.burst("shop/web/pod-1", perHour(v1alpha1.PerPod, 6, 4)); got != 3 {
		t.Errorf("pod-1 has %d left, want 3", got)
	}
	if got := w.burst("shop/web", perHour(v1alpha1.PerPod, 6, 4)); got != 4 {
		t.Errorf("a service account without a pod has %d left, want 4: nobody knows whether those were its own", got)
	}
	t.Run("many more than the burst", func(t *testing.T) {
		w := newWorld(t)
		for range 100 {
			w.approvals = append(w.approvals, Approval{Requester: requester("alice"), At: start})
		}
		if wait := w.take(w.from("alice"), q); wait == nil || !wait.Until.Equal(start.Add(10*time.Minute)) {
			t.Errorf("got %v, want one token's time", wait)
		}
	})
}

func TestQuotaChanges(t *testing.T) {
	w := newWorld(t)
	if got := w.burst("alice", perHour(v1alpha1.PerPolicy, 10, 10)); got != 10 {
		t.Fatal(got)
	}
	w.after(time.Hour)
	if got := w.burst("alice", perHour(v1alpha1.PerPolicy, 10, 2)); got != 2 {
		t.Errorf("%d at once with a smaller burst, want 2", got)
	}
	late := w.from("bob")
	if wait := w.take(late, perHour(v1alpha1.PerPolicy, 1, 2)); wait == nil {
		t.Error("an empty bucket is full")
	}
	w.after(time.Hour + time.Second)
	if wait := w.take(late, perHour(v1alpha1.PerPolicy, 36000, 36000)); wait != nil {
		t.Errorf("with a wider quota: %s", wait)
	}
}

func TestConcurrency(t *testing.T) {
	w := newWorld(t)
	q := []v1alpha1.Quota{perHour(v1alpha1.PerPolicy, 100, 100), perHour(v1alpha1.PerNamespace, 60, 60)}
	requests := make(chan csr.Request, 400)
	for i := range 400 {
		requests <- w.from([]string{"shop/web", "bank/web"}[i%2])
	}
	close(requests)
	var group sync.WaitGroup
	passed := make(chan struct{}, 400)
	for range 8 {
		group.Go(func() {
			for req := range requests {
				if wait, err := w.Take(context.Background(), req, "p", q); err != nil {
					t.Error(err)
				} else if wait == nil {
					passed <- struct{}{}
				}
			}
		})
	}
	group.Wait()
	if len(passed) != 100 {
		t.Errorf("%d pass at once, want 100", len(passed))
	}
}
