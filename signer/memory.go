// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"crypto/x509"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	// remembered is how many requests are remembered at the most, those that came up last. A chain takes some 3 KB.
	remembered = 8192
	// rememberedFor is how long: Kubernetes deletes a request that is not signed after a day.
	rememberedFor = 24 * time.Hour
	// writtenFor is how long a chain is remembered that was written, for a cache that shows the request from before that.
	writtenFor = 5 * time.Minute
	// firstAgain and lastAgain bound the pause before a backend is asked again for what it could not sign for a reason that is the
	// request's own: each attempt may buy a certificate.
	firstAgain = time.Minute
	lastAgain  = time.Hour
	// held is how long a request waits for the backend that it is pending with while that is in trouble. After that another one may
	// sign it, and what the first had begun may be paid for in vain.
	held = 10 * time.Minute
)

// memory is what is known of requests beside what the API server keeps, so that nothing is bought twice. What it loses in a restart
// costs a certificate at the most.
type memory struct {
	requests *cache.LRUExpireCache
	clock    clock.PassiveClock
}

func newMemory(clk clock.PassiveClock) *memory {
	return &memory{requests: cache.NewLRUExpireCacheWithClock(remembered, clk), clock: clk}
}

// record is what is known of one request. It is used by the one worker that has the request.
type record struct {
	// chain is what was signed by a backend, in DER, and may not be written yet; renewAt is when to renew it.
	chain   [][]byte
	by      *member
	renewAt time.Time
	// with is the backend that the request is pending with, troubled since when that cannot be asked.
	with     *member
	troubled time.Time
	// again is when each backend may be asked again that could not sign this request.
	again map[*member]attempt
	// waits counts the times that no backend had a place for it.
	waits int
	// told is true once a person was told that the request is not signed yet.
	told bool
}

// attempt is what came of asking a backend.
type attempt struct {
	times int
	next  time.Time
	err   error
}

// of returns the record of a request, which is new if nothing is known.
func (m *memory) of(uid types.UID) *record {
	if found, ok := m.requests.Get(uid); ok {
		return found.(*record)
	}
	return &record{again: map[*member]attempt{}}
}

// keep remembers the record.
func (m *memory) keep(uid types.UID, r *record) { m.requests.Add(uid, r, rememberedFor) }

// written says that the chain of a request was written.
func (m *memory) written(uid types.UID) {
	if found, ok := m.requests.Get(uid); ok {
		r := found.(*record)
		m.requests.Add(uid, &record{chain: r.chain, by: r.by, renewAt: r.renewAt, again: map[*member]attempt{}}, writtenFor)
	}
}

// tell reports whether nobody was told yet that a request is not signed, as far as it is remembered. Then somebody is.
func (m *memory) tell(uid types.UID) bool {
	found, ok := m.requests.Get(uid)
	if !ok || found.(*record).told {
		return !ok
	}
	found.(*record).told = true
	return true
}

// forget drops what is known of a request.
func (m *memory) forget(uid types.UID) { m.requests.Remove(uid) }

// signed remembers a chain.
func (r *record) signed(by *member, issued issuance) {
	r.chain, r.by, r.renewAt = nil, by, issued.renewAt
	r.with, r.troubled = nil, time.Time{}
	for _, c := range issued.chain {
		r.chain = append(r.chain, c.Raw)
	}
}

// certificates returns the chain that was signed; nil if there is none.
func (r *record) certificates() []*x509.Certificate {
	var chain []*x509.Certificate
	for _, der := range r.chain {
		chain = append(chain, &x509.Certificate{Raw: der}) // Verify parses it
	}
	return chain
}

// failed notes that a backend could not sign this request for a reason of the request's own.
func (r *record) failed(m *member, err error, now time.Time) {
	a := r.again[m]
	pause := min(firstAgain<<min(a.times, 10), lastAgain)
	r.again[m] = attempt{times: a.times + 1, next: now.Add(pause), err: err}
	r.release(m)
}

// next says when the first of those backends is asked again that could not sign this request.
func (r *record) next(now time.Time) time.Duration {
	next := lastAgain
	for _, a := range r.again {
		next = min(next, a.next.Sub(now))
	}
	return max(next, soonest)
}

// release has the request wait for the backend no longer.
func (r *record) release(m *member) {
	if r.with == m {
		r.with, r.troubled = nil, time.Time{}
	}
}

// errHeld is in the error of a request that waits for the backend which has begun with it.
var errHeld = errors.New("the request stays with the backend that has begun with it")
