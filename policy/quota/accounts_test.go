// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
)

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

// An account that bounds nothing but what is pending is forgotten like any other.
func TestIdleAccountsOfPendingAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.take(w.from("alice"), v1alpha1.Quota{Per: v1alpha1.PerPod, MaxPending: 1})
	for _, c := range []struct {
		after time.Duration
		left  int
	}{{sweepEvery - 1, 2}, {sweepEvery, 1}} {
		w.after(c.after)
		w.take(w.from("bob"), pendingOf(v1alpha1.PerNamespace, 9))
		if len(w.accounts) != c.left {
			t.Errorf("%d accounts after %s, want %d", len(w.accounts), c.after, c.left)
		}
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

// Each question to the ledger may go wrong when the others do not.
func TestTroubleOfOneKind(t *testing.T) {
	down := errors.New("connection refused")
	for name, c := range map[string]struct {
		sound string
		after time.Duration
		want  string
	}{
		"unfinished":              {"Undecided", time.Second, "counting the unfinished requests of policy p"},
		"undecided":               {"Unfinished", time.Second, "looking for request request-1"},
		"undecided, in the sweep": {"Unfinished", sweepEvery, "looking for request request-1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			q := pendingOf(v1alpha1.PerNamespace, 2)
			first := w.from("alice")
			w.undecided[first.UID] = true
			w.take(first, q)
			w.after(c.after)
			w.trouble, w.sound = down, c.sound
			quotas := []v1alpha1.Quota{q}
			if c.after == sweepEvery {
				quotas = []v1alpha1.Quota{perHour(v1alpha1.PerPod, 1, 1)} // which would not look for it
				w.rebuilt[subject{policy: "p", per: v1alpha1.PerPod}] = true
			}
			if wait, err := w.Take(t.Context(), w.from("alice"), "p", quotas); wait != nil || !errors.Is(err, down) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want an error with %q", wait, err, c.want)
			}
		})
	}
}
