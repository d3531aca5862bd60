// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
)

// asked is a judge that notes how it was asked.
type asked struct {
	Judge
	how []string
	err error
}

func (a *asked) Decide(ctx context.Context, req csr.Request) (policy.Decision, error) {
	if a.how = append(a.how, "Decide"); a.err != nil {
		return policy.Decision{}, a.err
	}
	return a.Judge.Decide(ctx, req)
}

func (a *asked) Reconsider(ctx context.Context, req csr.Request) (policy.Decision, error) {
	a.how = append(a.how, "Reconsider")
	return a.Judge.Reconsider(ctx, req)
}

func TestUnselectedIsLookedUpOnce(t *testing.T) {
	r, other := request(t, "web", "a.example.com"), request(t, "other", "a.example.com")
	r.Spec.Username, other.Spec.Username, other.UID = "mallory", "mallory", "uid-2"
	w := newWorld(t, r, other, newPolicy(v1alpha1.ApprovalAutomatic))
	judge := &asked{Judge: w.Judge}
	w.Judge = judge
	for _, name := range []string{"web", "web", "other", "web"} {
		if _, err := w.reconcile(t, name); err != nil {
			t.Fatal(err)
		}
	}
	p := w.policy(t)
	p.Spec.Requesters.Users = []string{"mallory"}
	w.change(t, p)
	if _, err := w.reconcile(t, "web"); err != nil || !csr.IsApproved(w.stored(t, "web")) {
		t.Errorf("not approved by a policy that selects it now, error %v", err)
	}
	if want := []string{"Decide", "Reconsider", "Decide", "Reconsider", "Reconsider"}; !slices.Equal(judge.how, want) {
		t.Errorf("asked %q, want %q", judge.how, want)
	}
}

func TestUnselectedIsLookedAtMoreRarelyTheOlderItIs(t *testing.T) {
	r := request(t, "web", "a.example.com")
	r.Spec.Username, r.CreationTimestamp = "mallory", metav1.NewTime(now)
	w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
	for age, want := range map[time.Duration]time.Duration{
		0: 5 * time.Minute, 8 * time.Minute: 5 * time.Minute, 30 * time.Minute: 15 * time.Minute, 23 * time.Hour: time.Hour, -time.Hour: 5 * time.Minute,
	} {
		w.clock.SetTime(now.Add(age))
		if result, err := w.reconcile(t, "web"); err != nil || result.RequeueAfter != want {
			t.Errorf("at the age of %s: %v, %v, want %s", age, result, err, want)
		}
	}
}

func TestWhatPassesSoonIsNoError(t *testing.T) {
	r := request(t, "web", "a.example.com")
	r.CreationTimestamp = metav1.NewTime(now)
	w := newWorld(t, r, newPolicy(v1alpha1.ApprovalAutomatic))
	w.Judge = &asked{Judge: w.Judge, err: &judge.WaitError{After: 2 * time.Second, Reason: "no address yet"}}
	for _, c := range []struct {
		age, again time.Duration
		events     int
	}{{0, 2 * time.Second, 0}, {40 * time.Second, 20 * time.Second, 0}, {2 * time.Minute, time.Minute, 1}, {time.Hour, time.Minute, 1}} {
		w.clock.SetTime(now.Add(c.age))
		result, err := w.reconcile(t, "web")
		if err != nil || result.RequeueAfter != c.again || len(w.events(t)) != c.events {
			t.Errorf("at the age of %s: %v, %v, %d events, want %s and %d", c.age, result, err, len(w.events(t)), c.again, c.events)
		}
	}
	down := errors.New("connection refused")
	w.Judge = &asked{Judge: w.Judge, err: down}
	if result, err := w.reconcile(t, "web"); !errors.Is(err, down) || !result.IsZero() {
		t.Errorf("other trouble: %v, %v", result, err)
	}
}
