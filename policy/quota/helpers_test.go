// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"context"
	"fmt"
	"strings"
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
	sound                 string         // the one method that is not in trouble
	asked                 map[string]int // how often each method was
}

func (l *ledger) ask(method string) error {
	l.asked[method]++
	if method == l.sound {
		return nil
	}
	return l.trouble
}

func (l *ledger) Approvals(context.Context, string) ([]Approval, error) {
	return l.approvals, l.ask("Approvals")
}

func (l *ledger) Unfinished(context.Context, string) ([]Approval, error) {
	return l.unfinished, l.ask("Unfinished")
}

func (l *ledger) Undecided(_ context.Context, _ string, uid types.UID) (bool, error) {
	return l.undecided[uid], l.ask("Undecided")
}

type world struct {
	*Limiter
	*ledger
	clock *testingclock.FakePassiveClock
	t     *testing.T
	n     int
}

func newWorld(t *testing.T) *world {
	clock, l := testingclock.NewFakePassiveClock(start), &ledger{undecided: map[types.UID]bool{}, asked: map[string]int{}}
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
