// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"maps"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

func TestPending(t *testing.T) {
	w := newWorld(t)
	q := pendingOf(v1alpha1.PerNamespace, 2)
	first, second, third := w.from("shop/web"), w.from("shop/api"), w.from("shop/web")
	w.undecided[first.UID], w.undecided[second.UID] = true, true // the cache does not know yet that they are approved
	if wait := w.take(first, q); wait != nil {
		t.Fatal(wait)
	}
	if wait := w.take(second, q); wait != nil {
		t.Fatal(wait)
	}
	for range 2 {
		if wait := w.take(third, q); wait == nil || !wait.Full || !wait.Until.Equal(start.Add(soonest)) {
			t.Fatalf("got %v, want to wait for the others", wait)
		}
	}
	if wait := w.take(w.from("bank/web"), q); wait != nil {
		t.Errorf("another namespace: %s", wait)
	}
	w.undecided[first.UID] = false // approved, and the cache knows
	w.unfinished = []Approval{{UID: first.UID, Requester: requester("shop/web")}, {UID: "another", Requester: requester("bank/web")}}
	if w.take(third, q) == nil {
		t.Error("what is approved and not issued does not count")
	}
	w.unfinished = nil // issued
	if wait := w.take(third, q); wait != nil {
		t.Errorf("after the first one is issued: %s", wait)
	}
}

// After a restart nothing is known but what the cluster holds.
func TestPendingAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.unfinished = []Approval{{UID: "a", Requester: requester("shop/web")}, {UID: "b", Requester: requester("shop/web")}}
	req := w.from("shop/web")
	if wait := w.take(req, pendingOf(v1alpha1.PerServiceAccount, 2)); wait == nil || !wait.Full {
		t.Errorf("got %v, want it to wait", wait)
	}
	if wait := w.take(req, pendingOf(v1alpha1.PerServiceAccount, 3)); wait != nil {
		t.Error(wait)
	}
}

func TestShow(t *testing.T) {
	w := newWorld(t)
	quotas := []v1alpha1.Quota{
		{Per: v1alpha1.PerPolicy, Requests: 1, Burst: 1, MaxPending: 2, Period: metav1.Duration{Duration: time.Hour}},
		perHour(v1alpha1.PerNamespace, 1, 1),
	}
	show := func(req csr.Request) *Wait {
		t.Helper()
		w.undecided[req.UID] = true
		wait, err := w.Show(t.Context(), req, "p", quotas)
		if err != nil {
			t.Fatal(err)
		}
		return wait
	}
	first, second, third := w.from("alice"), w.from("alice"), w.from("bob")
	for range 3 { // looking again costs nothing
		if wait := show(first); wait != nil {
			t.Fatal(wait)
		}
	}
	if wait := show(second); wait != nil {
		t.Fatalf("requests in a time bound what persons see: %s", wait)
	}
	if wait := show(third); wait == nil || !wait.Full || wait.Ahead != 0 {
		t.Fatalf("got %v, want it to wait behind the two", wait)
	}
	w.undecided[first.UID] = false
	if wait := show(third); wait != nil {
		t.Errorf("after one was decided: %s", wait)
	}
	if wait, err := w.Show(t.Context(), w.from("alice"), "p", []v1alpha1.Quota{perHour(v1alpha1.PerPolicy, 1, 1)}); wait != nil || err != nil {
		t.Errorf("without maxPending: %v, %v", wait, err)
	}
}

// What others have unfinished counts for them alone, and what counts already by itself is not counted twice.
func TestPendingCountsTheSubjectsOwn(t *testing.T) {
	w := newWorld(t)
	q := pendingOf(v1alpha1.PerNamespace, 2)
	first := w.from("shop/web")
	w.undecided[first.UID] = true
	w.take(first, q)
	w.unfinished = []Approval{{UID: first.UID, Requester: first.Requester}, {UID: "a", Requester: requester("bank/web")}, {UID: "b", Requester: requester("alice")}}
	if wait := w.take(w.from("shop/web"), q); wait != nil {
		t.Errorf("the second of two: %s", wait)
	}
}

// One at a time is the narrowest there is.
func TestOnePending(t *testing.T) {
	w := newWorld(t)
	q := pendingOf(v1alpha1.PerPolicy, 1)
	for name, ask := range map[string]func(csr.Request) (*Wait, error){
		"taken": func(req csr.Request) (*Wait, error) { return w.Take(t.Context(), req, "p", []v1alpha1.Quota{q}) },
		"shown": func(req csr.Request) (*Wait, error) { return w.Show(t.Context(), req, "q", []v1alpha1.Quota{q}) },
	} {
		first := w.from("alice")
		w.undecided[first.UID] = true
		if wait, err := ask(first); wait != nil || err != nil {
			t.Errorf("%s: the first waits: %v, %v", name, wait, err)
		}
		if wait, err := ask(w.from("alice")); wait == nil || err != nil {
			t.Errorf("%s: the second does not wait: %v", name, err)
		}
	}
}

// What is asked of the ledger costs time that everybody waits for.
func TestLedgerIsAskedForWhatIsNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		quotas []v1alpha1.Quota
		want   map[string]int
	}{
		"no quota": {nil, map[string]int{}},
		"requests": {[]v1alpha1.Quota{perHour(v1alpha1.PerPolicy, 60, 60)}, map[string]int{"Approvals": 1}},
		"pending":  {[]v1alpha1.Quota{pendingOf(v1alpha1.PerPolicy, 60)}, map[string]int{"Unfinished": 11, "Undecided": 45 + 2*10}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i := range 11 {
				if i == 10 {
					w.after(sweepEvery)
				}
				req := w.from("alice")
				w.undecided[req.UID] = true
				w.take(req, c.quotas...)
			}
			if !maps.Equal(w.asked, c.want) {
				t.Errorf("asked %v, want %v", w.asked, c.want)
			}
		})
	}
}

// To show a request to a person costs nothing of what bounds the approvals without one.
func TestShowLeavesBucketsAlone(t *testing.T) {
	w := newWorld(t)
	q := perHour(v1alpha1.PerPolicy, 2, 2)
	w.take(w.from("alice"), q)
	if _, err := w.Show(t.Context(), w.from("alice"), "p", []v1alpha1.Quota{q}); err != nil {
		t.Fatal(err)
	}
	if got := w.burst("alice", q); got != 1 {
		t.Errorf("%d are left, want 1", got)
	}
}
