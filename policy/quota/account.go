// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

const (
	// maxLine bounds the places of one line. Who finds no place comes again as if it had the last one.
	maxLine = 5_000
	// grace is how long a place is kept for a request that does not come when it may.
	grace = time.Minute
	// Requests that wait for others to be finished come again after soonest, the first ones of a line, up to latest. Nobody
	// knows when that will be.
	soonest = 10 * time.Second
	latest  = 10 * time.Minute
	// longest is after what time every request that waits comes again, so that places of those that are gone get free.
	longest = time.Hour
)

// account is what is known of one subject of one policy: its token bucket, which is golang.org/x/time/rate's with tokens
// that can be given back at any time; the requests that were let through and show no sign of it yet; and the line.
type account struct {
	quota  v1alpha1.Quota
	tokens float64
	at     time.Time // when tokens was right
	open   map[types.UID]string
	line   []place
}

// place in a line is kept for a request until it should have come again.
type place struct {
	uid   types.UID
	again time.Time
}

// refill adds the tokens that came since the last time. The quota may have changed.
func (a *account) refill(q v1alpha1.Quota, now time.Time) {
	a.quota = q
	if elapsed := now.Sub(a.at); elapsed > 0 {
		a.tokens += rate(q) * elapsed.Seconds()
		a.at = now
	}
	a.tokens = min(a.tokens, float64(q.Burst))
}

// rate is how many tokens come in a second.
func rate(q v1alpha1.Quota) float64 {
	if q.Requests == 0 {
		return 0
	}
	return float64(q.Requests) / q.Period.Seconds()
}

// affordable returns when there is a token for a request that has so many others before it, at a whole second unless it
// is now.
func (a *account) affordable(ahead int, now time.Time) time.Time {
	const rounding = 1e-6
	missing := float64(ahead+1) - a.tokens
	if a.quota.Requests == 0 || missing <= rounding {
		return now
	}
	seconds := min(math.Ceil(missing/rate(a.quota)), float64(math.MaxInt32)) // within what a time.Duration holds
	return now.Add(time.Duration(seconds) * time.Second)
}

// ahead counts the places before the request's own, or all if it has none, and takes those away that nobody came for.
func (a *account) ahead(uid types.UID, now time.Time) int {
	a.line = slices.DeleteFunc(a.line, func(p place) bool { return p.uid != uid && now.After(p.again.Add(grace)) })
	if i := a.place(uid); i >= 0 {
		return i
	}
	return len(a.line)
}

func (a *account) place(uid types.UID) int {
	return slices.IndexFunc(a.line, func(p place) bool { return p.uid == uid })
}

// queue keeps a place for the request until then: the one that it has, or the last one.
func (a *account) queue(uid types.UID, again time.Time) {
	if i := a.place(uid); i >= 0 {
		a.line[i].again = again
	} else if len(a.line) < maxLine {
		a.line = append(a.line, place{uid, again})
	}
}

// spend lets the request through.
func (a *account) spend(req csr.Request) {
	if i := a.place(req.UID); i >= 0 {
		a.line = slices.Delete(a.line, i, i+1)
	}
	if a.quota.Requests > 0 {
		a.tokens--
	}
	if a.quota.MaxPending > 0 {
		a.open[req.UID] = req.Name
	}
}

// patience is after what time a request that waits for others comes again. The last of a long line come rarely.
func patience(ahead int) time.Duration {
	return min(soonest+time.Duration(ahead)*time.Second, latest)
}
