// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package quota bounds how many requests policies approve: within a time, as token buckets, and at once. A request beyond a
// quota waits in line; it is never refused for that.
//
// Buckets live in memory. When a policy is first asked for they are filled in from the approvals that the cluster still
// holds, so that neither a restart nor a new leader lets a burst through. Kubernetes deletes issued requests after about an
// hour: of a longer period, what was approved before that is forgotten with the process. How many requests are unfinished is
// counted anew each time.
package quota

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

const (
	// sweepEvery is how often accounts that say nothing any more are forgotten.
	sweepEvery = time.Minute
	// maxAccounts bounds the memory. Beyond it accounts are forgotten at random, which gives their subjects a full bucket.
	maxAccounts = 1 << 16
)

// Ledger knows what policies approved before. It may lag behind by moments.
type Ledger interface {
	// Approvals returns all approvals by the policy that are still known.
	Approvals(ctx context.Context, policy string) ([]Approval, error)
	// Unfinished returns those of them that are neither issued nor failed yet.
	Unfinished(ctx context.Context, policy string) ([]Approval, error)
	// Undecided reports whether the request still waits to be approved or denied.
	Undecided(ctx context.Context, name string, uid types.UID) (bool, error)
}

// Approval is a request that a policy approved without a person.
type Approval struct {
	UID       types.UID
	Requester csr.Requester
	At        time.Time
}

// Limiter keeps the accounts of all policies. It is safe for concurrent use.
type Limiter struct {
	clock  clock.PassiveClock
	ledger Ledger

	mu       sync.Mutex
	accounts map[subject]*account
	rebuilt  map[subject]bool // without who: of all subjects of that kind
	swept    time.Time
}

// New returns a limiter that knows nothing yet.
func New(clock clock.PassiveClock, ledger Ledger) *Limiter {
	return &Limiter{clock: clock, ledger: ledger, accounts: map[subject]*account{}, rebuilt: map[subject]bool{}, swept: clock.Now()}
}

// Take spends what the approval of a request costs by the quotas of the policy that permits it: of all of them, or of none if
// one of them has the request wait. An error is trouble that passes. Whoever then cannot approve calls Return.
func (l *Limiter) Take(ctx context.Context, req csr.Request, policy string, quotas []v1alpha1.Quota) (*Wait, error) {
	if len(quotas) == 0 {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if err := l.sweep(ctx, now); err != nil {
		return nil, err
	}
	accounts := make([]*account, 0, len(quotas))
	for _, q := range narrowestFirst(quotas) {
		s := subjectOf(policy, q.Per, req.Requester)
		a, err := l.account(ctx, s, q, now)
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, a)
		wait, err := l.ask(ctx, a, s, req, now)
		if err != nil {
			return nil, err
		}
		if wait != nil {
			for _, a := range accounts {
				a.queue(req.UID, wait.Again)
			}
			return wait, nil
		}
	}
	for _, a := range accounts {
		a.spend(req)
	}
	return nil, nil
}

// Show asks whether a request may be put before a person. Only MaxPending bounds this, as persons approve what they like.
// What was shown counts until it is decided. A new process counts requests as it looks at them again, in any order: until
// people have decided about those of before, it may show others as well.
func (l *Limiter) Show(ctx context.Context, req csr.Request, policy string, quotas []v1alpha1.Quota) (*Wait, error) {
	var caps []v1alpha1.Quota
	for _, q := range quotas {
		if q.MaxPending > 0 {
			q.Requests, q.Burst = 0, 0
			caps = append(caps, q)
		}
	}
	return l.Take(ctx, req, policy, caps)
}

// Return gives back what Take spent.
func (l *Limiter) Return(req csr.Request, policy string, quotas []v1alpha1.Quota) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range quotas {
		if a := l.accounts[subjectOf(policy, q.Per, req.Requester)]; a != nil {
			a.tokens = min(a.tokens+1, float64(a.quota.Burst))
			delete(a.open, req.UID)
		}
	}
}

// ask says whether and how long one account has a request wait, which then gets a place in its line.
func (l *Limiter) ask(ctx context.Context, a *account, s subject, req csr.Request, now time.Time) (*Wait, error) {
	ahead := a.ahead(req.UID, now)
	w := &Wait{Policy: s.policy, Quota: a.quota, Subject: s.String(), Ahead: ahead, Until: a.affordable(ahead, now)}
	if _, open := a.open[req.UID]; a.quota.MaxPending > 0 && !open {
		n, err := l.count(ctx, a, s)
		if err != nil {
			return nil, err
		}
		if n+ahead >= int(a.quota.MaxPending) {
			w.Full = true
			if again := now.Add(patience(ahead)); again.After(w.Until) {
				w.Until = again
			}
		}
	}
	if !w.Until.After(now) {
		return nil, nil
	}
	if w.Again = w.Until; w.Again.After(now.Add(longest)) {
		w.Again = now.Add(longest)
	}
	return w, nil
}

// narrowestFirst returns the quotas in the order in which they are asked. Who has to wait for one stands in its line, and in
// those of the narrower ones before it, where the place holds a token back; but in no line after it. So nobody stands in the
// line of all, which others wait in, with more requests than their own quotas have room for.
func narrowestFirst(quotas []v1alpha1.Quota) []v1alpha1.Quota {
	order := []v1alpha1.QuotaSubject{v1alpha1.PerPod, v1alpha1.PerServiceAccount, v1alpha1.PerNamespace, v1alpha1.PerPolicy}
	return slices.SortedStableFunc(slices.Values(quotas), func(a, b v1alpha1.Quota) int {
		return slices.Index(order, a.Per) - slices.Index(order, b.Per)
	})
}

// count counts the subject's requests that are approved and not finished, or were let through here and do not show as
// decided yet: the ledger lags behind, or a person takes their time.
func (l *Limiter) count(ctx context.Context, a *account, s subject) (int, error) {
	if err := l.close(ctx, a); err != nil {
		return 0, err
	}
	approvals, err := l.ledger.Unfinished(ctx, s.policy)
	if err != nil {
		return 0, fmt.Errorf("counting the unfinished requests of policy %s: %w", s.policy, err)
	}
	n := len(a.open)
	for _, approval := range approvals {
		if _, open := a.open[approval.UID]; !open && subjectOf(s.policy, s.per, approval.Requester) == s {
			n++
		}
	}
	return n, nil
}

// close forgets the requests that were let through and are decided, or gone.
func (l *Limiter) close(ctx context.Context, a *account) error {
	for uid, name := range a.open {
		undecided, err := l.ledger.Undecided(ctx, name, uid)
		if err != nil {
			return fmt.Errorf("looking for request %s: %w", name, err)
		}
		if !undecided {
			delete(a.open, uid)
		}
	}
	return nil
}

// account returns the account of a subject, refilled up to now by the quota as it is now.
func (l *Limiter) account(ctx context.Context, s subject, q v1alpha1.Quota, now time.Time) (*account, error) {
	if kind := (subject{policy: s.policy, per: s.per}); q.Requests > 0 && !l.rebuilt[kind] {
		if err := l.rebuild(ctx, kind, q); err != nil {
			return nil, err
		}
		l.rebuilt[kind] = true
	}
	a := l.open(s, q, now)
	a.refill(q, now)
	return a, nil
}

// rebuild replays the approvals that the ledger knows.
func (l *Limiter) rebuild(ctx context.Context, kind subject, q v1alpha1.Quota) error {
	approvals, err := l.ledger.Approvals(ctx, kind.policy)
	if err != nil {
		return fmt.Errorf("listing the approvals by policy %s: %w", kind.policy, err)
	}
	slices.SortFunc(approvals, func(a, b Approval) int { return a.At.Compare(b.At) })
	for _, approval := range approvals {
		if _, ok := approval.Requester.Pod(); kind.per == v1alpha1.PerPod && !ok {
			continue // what the ledger no longer knows the pod of must not count for those without one
		}
		a := l.open(subjectOf(kind.policy, kind.per, approval.Requester), q, approval.At)
		a.refill(q, approval.At)
		a.tokens = max(a.tokens-1, 0)
	}
	return nil
}

// open returns the account of a subject; one that is new has a full bucket.
func (l *Limiter) open(s subject, q v1alpha1.Quota, now time.Time) *account {
	a := l.accounts[s]
	if a == nil {
		for old := range l.accounts {
			if len(l.accounts) < maxAccounts {
				break
			}
			delete(l.accounts, old)
		}
		a = &account{quota: q, tokens: float64(q.Burst), at: now, open: map[types.UID]string{}}
		l.accounts[s] = a
	}
	return a
}

// sweep forgets, once in a while, the accounts of which a new one would say the same.
func (l *Limiter) sweep(ctx context.Context, now time.Time) error {
	if now.Sub(l.swept) < sweepEvery {
		return nil
	}
	l.swept = now
	for s, a := range l.accounts {
		a.refill(a.quota, now)
		if err := l.close(ctx, a); err != nil {
			return err
		}
		if a.tokens >= float64(a.quota.Burst) && len(a.open) == 0 && a.ahead("", now) == 0 {
			delete(l.accounts, s)
		}
	}
	return nil
}
