// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"crypto/x509"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/member"
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
	// freshFor is how long a chain for a pod may be written after it was signed: with MaxPodBackdate, and a clock that is off by four
	// minutes, the API server's five are not over yet.
	freshFor = 20 * time.Second
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
	// chain is what was signed by a backend at a time, in DER, and may not be written yet; renewAt is when to renew it.
	chain   [][]byte
	by      *member.Member
	at      time.Time
	renewAt time.Time
	// with is the backend that the request is pending with, troubled since when that cannot be asked.
	with     *member.Member
	troubled time.Time
	// again is when each backend may be asked again that could not sign this request.
	again map[*member.Member]attempt
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
	return &record{again: map[*member.Member]attempt{}}
}

// keep remembers the record.
func (m *memory) keep(uid types.UID, r *record) { m.requests.Add(uid, r, rememberedFor) }

// written says that the chain of a request was written.
func (m *memory) written(uid types.UID) {
	if found, ok := m.requests.Get(uid); ok {
		r := found.(*record)
		m.requests.Add(uid, &record{chain: r.chain, by: r.by, at: r.at, renewAt: r.renewAt, again: map[*member.Member]attempt{}}, writtenFor)
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
func (r *record) signed(by *member.Member, issued Issued, now time.Time) {
	r.chain, r.by, r.at, r.renewAt = nil, by, now, issued.RenewAt
	r.with, r.troubled = nil, time.Time{}
	for _, c := range issued.Chain {
		r.chain = append(r.chain, c.Raw)
	}
}

// certificates returns the chain that was signed; nil if there is none.
func (r *record) certificates() []*x509.Certificate {
	var chain []*x509.Certificate
	for _, der := range r.chain {
		chain = append(chain, &x509.Certificate{Raw: der}) // verifying it parses it
	}
	return chain
}

// stale reports whether the API server may not take the chain any more, as its life has to begin when it is written.
func (r *record) stale(req csr.Request, now time.Time) bool {
	return req.ForPod && now.Sub(r.at) > freshFor
}

// rejected notes that the API server does not take what was signed for a request. Its backend is asked again after a pause, as each
// attempt may buy a certificate.
func (m *memory) rejected(uid types.UID, why error) {
	if found, ok := m.requests.Get(uid); ok {
		if r := found.(*record); r.by != nil {
			r.failed(r.by, why, m.clock.Now())
			r.chain, r.by = nil, nil
		}
	}
}

// failed notes that a backend could not sign this request for a reason of the request's own.
func (r *record) failed(m *member.Member, err error, now time.Time) {
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
func (r *record) release(m *member.Member) {
	if r.with == m {
		r.with, r.troubled = nil, time.Time{}
	}
}

// errHeld is in the error of a request that waits for the backend which has begun with it.
var errHeld = errors.New("the request stays with the backend that has begun with it")
