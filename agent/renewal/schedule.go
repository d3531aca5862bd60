// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package renewal decides when a key pair is renewed, and why. It reads no files and
// asks nobody.
//
// What it promises: pods that were told the same at once do not renew at once; and
// nothing that others write, be it advice, an anchor, an annotation or a
// certificate, has a pair renewed without end or later than by its lifetime.
package renewal

import (
	"time"

	"github.com/certwright/certwright/agent/credential"
)

const (
	// distrustSpread is over how long agents spread that all saw their anchor
	// withdrawn at once; askedSpread, that were all told to renew.
	distrustSpread = 10 * time.Second
	askedSpread    = 30 * time.Second
	// askedGap lies between a request and the next renewal at least that somebody asks for.
	askedGap = time.Minute
	// anchorDelay is how long after the start of a new trust anchor certificates are
	// renewed at the earliest.
	anchorDelay = time.Hour
)

// Schedule is when a pair is renewed: the earliest of the times that are not zero.
type Schedule struct {
	jitter func() float64
	pair   *credential.Pair // nil: none is renewed

	normal   time.Time // its share of the lifetime has passed
	anchor   time.Time // the CA is being replaced
	distrust time.Time // it does not lead to the trust bundle
	asked    time.Time // somebody asks for it

	answered time.Time // start of the newest anchor that pairs need not follow any more
}

// New returns a Schedule without a pair. jitter returns numbers in [0, 1) that spread renewals.
func New(jitter func() float64) *Schedule { return &Schedule{jitter: jitter} }

// Next returns the earliest time and its reason; the zero time when there is none.
func (s *Schedule) Next() (at time.Time, reason string) {
	for _, candidate := range []struct {
		at     time.Time
		reason string
	}{
		{s.normal, "its share of the lifetime has passed"},
		{s.anchor, "a trust anchor is newer than the certificate"},
		{s.distrust, "the certificate does not lead to the trust bundle"},
		{s.asked, "the annotation of the pod asks for it"},
	} {
		if !candidate.at.IsZero() && (at.IsZero() || candidate.at.Before(at)) {
			at, reason = candidate.at, candidate.reason
		}
	}
	return at, reason
}

// Due reports whether one of the times has come.
func (s *Schedule) Due(now time.Time) bool {
	at, _ := s.Next()
	return !at.IsZero() && !now.Before(at)
}

// Normal is when the pair is renewed if nothing else happens.
func (s *Schedule) Normal() time.Time { return s.normal }

// Trusted reports whether the pair leads to the bundle that Follow saw last.
func (s *Schedule) Trusted() bool { return s.distrust.IsZero() }

// Clear forgets the pair.
func (s *Schedule) Clear() { *s = Schedule{jitter: s.jitter, answered: s.answered} }

// Adopt plans for a pair that an earlier run left, beside its signer's bundle, if that is known.
func (s *Schedule) Adopt(p *credential.Pair, own *credential.Bundle, now time.Time) {
	s.Clear()
	s.pair = p
	s.normal = s.share()
	s.Follow(own, now)
}

// Begin plans for a pair that was issued just now. A signer that issues certificates
// which are older than its anchors would have it renewed without end, so it need not
// follow those that are there; and one that a CA near its end cut short, so that its
// share of the lifetime has passed at once, keeps for a third of what is left.
func (s *Schedule) Begin(p *credential.Pair, own *credential.Bundle, now time.Time) {
	if newest := newestAnchor(own); newest.After(s.answered) {
		s.answered = newest
	}
	s.Adopt(p, own, now)
	if soonest := now.Round(0).Add(p.Leaf().NotAfter.Sub(now) / 3); s.normal.Before(soonest) {
		s.normal = soonest
	}
}

// Follow compares the pair with its signer's bundle, when that has changed.
func (s *Schedule) Follow(own *credential.Bundle, now time.Time) {
	if s.pair == nil || own == nil {
		return
	}
	switch err := s.pair.LeadsTo(own, now); {
	case err == nil:
		s.distrust = time.Time{}
	case s.distrust.IsZero():
		s.distrust = now.Round(0).Add(s.spread(distrustSpread))
	}
	s.anchor = s.anchorRenewal(own, now)
}

// Ask says that certificates from before a time are to be renewed, and returns for
// when that is planned, and whether it was just now. A time in the future is waited
// for, one that the pair has followed counts no more, so that no value, and no clock,
// can have it renewed without end. last is when a certificate was requested last.
func (s *Schedule) Ask(at, last, now time.Time) (planned time.Time, fresh bool) {
	if s.pair == nil {
		return time.Time{}, false
	}
	if at.IsZero() || at.After(now) || !at.After(s.pair.Renew) || !at.After(s.pair.Leaf().NotBefore) {
		s.asked = time.Time{}
		return time.Time{}, false
	}
	if !s.asked.IsZero() {
		return s.asked, false
	}
	s.asked = now.Round(0).Add(s.spread(askedSpread))
	if soonest := last.Add(askedGap); s.asked.Before(soonest) {
		s.asked = soonest.Round(0)
	}
	return s.asked, true
}

// share is two thirds into the pair's lifetime, give or take a tenth of what is then left, or when the signer advises it if that is
// earlier. Advice may be anybody's who can annotate requests: it never delays a renewal, and in the first third of the lifetime it
// counts for nothing, so that it cannot have the agent ask without end. It is not kept over a restart.
func (s *Schedule) share() time.Time {
	leaf := s.pair.Leaf()
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	third := lifetime / 3
	own := leaf.NotBefore.Add(lifetime - third + time.Duration((2*s.jitter()-1)*float64(third)/10))
	if advised := s.pair.Advised; advised.Before(own) && advised.After(leaf.NotBefore.Add(third)) {
		return advised
	}
	return own
}

// anchorRenewal is when the pair is renewed because its CA is being replaced:
// some time after the start of an anchor that is newer than the pair, spread
// over a third of what is then left of it. Once renewed, the pair is the newer.
func (s *Schedule) anchorRenewal(own *credential.Bundle, now time.Time) time.Time {
	leaf, newest := s.pair.Leaf(), newestAnchor(own)
	if !newest.After(leaf.NotBefore) || !newest.After(s.answered) {
		return time.Time{}
	}
	earliest := newest.Add(anchorDelay)
	if now.After(earliest) {
		earliest = now.Round(0)
	}
	left := leaf.NotAfter.Sub(earliest)
	if left <= 0 {
		return time.Time{}
	}
	return earliest.Add(s.spread(left / 3))
}

// newestAnchor is the latest start of an anchor, or the zero time.
func newestAnchor(own *credential.Bundle) (newest time.Time) {
	for _, cert := range own.Certs {
		if cert.IsCA && cert.NotBefore.After(newest) {
			newest = cert.NotBefore
		}
	}
	return newest
}

// spread returns a part of d, at random.
func (s *Schedule) spread(d time.Duration) time.Duration {
	return time.Duration(s.jitter() * float64(d))
}
