// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// ledger is what a cluster holds.
type ledger struct {
	approvals, unfinished []Approval
	undecided             map[types.UID]bool
	trouble               error
	listed                int // how often the approvals were
}

func (l *ledger) Approvals(context.Context, string) ([]Approval, error) {
	l.listed++
	return l.approvals, l.trouble
}

func (l *ledger) Unfinished(context.Context, string) ([]Approval, error) {
	return l.unfinished, l.trouble
}

func (l *ledger) Undecided(_ context.Context, _ string, uid types.UID) (bool, error) {
	return l.undecided[uid], l.trouble
}

type world struct {
	*Limiter
	*ledger
	clock *testingclock.FakePassiveClock
	t     *testing.T
	n     int
}

func newWorld(t *testing.T) *world {
	clock, l := testingclock.NewFakePassiveClock(start), &ledger{undecided: map[types.UID]bool{}}
	return &world{Limiter: New(clock, l), ledger: l, clock: clock, t: t}
}

func (w *world) after(d time.Duration) { w.clock.SetTime(start.Add(d)) }

// from is a new request of a requester such as "shop/web/pod-1", "shop/web" or "alice".
func (w *world) from(who string) csr.Request {
	w.n++
	return csr.Request{Name: fmt.Sprint("request-", w.n), UID: types.UID(fmt.Sprint("uid-", w.n)), Requester: requester(who)}
}

func requester(who string) csr.Requester {
	parts := strings.Split(who, "/")
	if len(parts) == 1 {
		return csr.Requester{Username: who}
	}
	r := csr.Requester{Username: "system:serviceaccount:" + parts[0] + ":" + parts[1]}
	if len(parts) == 3 {
		r.Extra = map[string]certificatesv1.ExtraValue{
			"authentication.kubernetes.io/pod-name": {parts[2]}, "authentication.kubernetes.io/pod-uid": {parts[2] + "-uid"},
		}
	}
	return r
}

func (w *world) take(req csr.Request, quotas ...v1alpha1.Quota) *Wait {
	w.t.Helper()
	wait, err := w.Take(context.Background(), req, "p", quotas)
	if err != nil {
		w.t.Fatal(err)
	}
	return wait
}

// burst counts how many requests of one requester are let through now.
func (w *world) burst(who string, quotas ...v1alpha1.Quota) int {
	w.t.Helper()
	for n := 0; ; n++ {
		if w.take(w.from(who), quotas...) != nil || n == 1000 {
			return n
		}
	}
}

func perHour(per v1alpha1.QuotaSubject, requests, burst int32) v1alpha1.Quota {
	return v1alpha1.Quota{Per: per, Requests: requests, Burst: burst, Period: metav1.Duration{Duration: time.Hour}}
}

func pendingOf(per v1alpha1.QuotaSubject, n int32) v1alpha1.Quota {
	return v1alpha1.Quota{Per: per, MaxPending: n, Period: metav1.Duration{Duration: time.Hour}}
}

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
		if wait := w.take(line[4], q); wait.Ahead != 4 || !wait.Until.Equal(start.Add(5*time.Minute)) {
			t.Error(wait)
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
	if w.listed != 1 {
		t.Errorf("listed %d times, want once", w.listed)
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

func TestIdleAccountsAreForgotten(t *testing.T) {
	w := newWorld(t)
	q := v1alpha1.Quota{Per: v1alpha1.PerPolicy, Requests: 2, Burst: 2, MaxPending: 9, Period: metav1.Duration{Duration: time.Hour}}
	shown := w.from("alice")
	w.undecided[shown.UID] = true
	w.take(shown, q)
	for i := range 100 {
		w.burst(fmt.Sprint("user-", i), perHour(v1alpha1.PerPod, 2, 2))
	}
	w.after(30 * time.Minute)
	w.take(w.from("bob"), perHour(v1alpha1.PerNamespace, 1, 1))
	if len(w.accounts) != 102 {
		t.Errorf("%d accounts while their buckets fill up, want 102", len(w.accounts))
	}
	w.after(3 * time.Hour)
	w.take(w.from("bob"), perHour(v1alpha1.PerNamespace, 1, 1))
	if len(w.accounts) != 2 { // bob's, and the one with a request that waits for a person
		t.Errorf("%d accounts are left, want 2", len(w.accounts))
	}
	w.undecided[shown.UID] = false
	w.after(5 * time.Hour)
	w.take(w.from("bob"), perHour(v1alpha1.PerNamespace, 1, 1))
	if len(w.accounts) != 1 {
		t.Errorf("%d accounts are left, want 1", len(w.accounts))
	}
}

func TestAccountsAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range maxAccounts + 100 {
		w.take(w.from(fmt.Sprint("user-", i)), perHour(v1alpha1.PerPod, 1, 1))
	}
	if len(w.accounts) != maxAccounts {
		t.Errorf("%d accounts, want %d", len(w.accounts), maxAccounts)
	}
}

func TestTroubleSpendsNothing(t *testing.T) {
	down := errors.New("connection refused")
	for name, q := range map[string]v1alpha1.Quota{"requests": perHour(v1alpha1.PerPolicy, 1, 1), "pending": pendingOf(v1alpha1.PerPolicy, 1)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			req := w.from("alice")
			w.trouble = down
			if wait, err := w.Take(t.Context(), req, "p", []v1alpha1.Quota{perHour(v1alpha1.PerNamespace, 1, 1), q}); wait != nil || !errors.Is(err, down) {
				t.Errorf("got %v, %v", wait, err)
			}
			w.trouble = nil
			if wait := w.take(req, perHour(v1alpha1.PerNamespace, 1, 1), q); wait != nil {
				t.Error(wait)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	w := newWorld(t)
	w.take(w.from("shop/web"), perHour(v1alpha1.PerNamespace, 1, 1))
	want := `CertificatePolicy "p" approves at most 1 requests in 1h0m0s for each Namespace, and namespace "shop" has used them up. ` +
		"The request waits until 2026-05-04T04:02:01Z at least; requests ahead of it: 0."
	if got := w.take(w.from("shop/web"), perHour(v1alpha1.PerNamespace, 1, 1)).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	hostile := w.from("a\x1b[2J\nb")
	w.unfinished = []Approval{{UID: "x", Requester: hostile.Requester}}
	want = `CertificatePolicy "p" has at most 1 unfinished requests for each Pod, and user "a\x1b[2J\nb" has as many. ` +
		"The request waits until 2026-05-04T03:02:11Z at least; requests ahead of it: 0."
	if got := w.take(hostile, pendingOf(v1alpha1.PerPod, 1)).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
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
