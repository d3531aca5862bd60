// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"fmt"
	"log/slog"
	"time"

	"github.com/certwright/certwright/agent/credential"
)

const (
	// distrustSpread is over how long agents spread that all saw their anchor
	// withdrawn at once; renewSpread, that were all told to renew.
	distrustSpread = 10 * time.Second
	renewSpread    = 30 * time.Second
	// renewGap lies between two renewals at least that a RenewFile asks for.
	renewGap = time.Minute
	// anchorDelay is how long after the start of a new trust anchor certificates are
	// renewed at the earliest.
	anchorDelay = time.Hour
	// maxRenewBytes is more than a time in RFC 3339 needs.
	maxRenewBytes = 64
)

// schedule is when the current pair is renewed, and why: the earliest of the
// times that are not zero.
type schedule struct {
	normal   time.Time // its share of the lifetime has passed
	anchor   time.Time // the CA is being replaced
	distrust time.Time // it does not lead to the trust bundle
	asked    time.Time // the RenewFile says so
}

// next returns the earliest time and its reason.
func (s schedule) next() (at time.Time, reason string) {
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

// due reports whether one of the times has come.
func (s schedule) due(now time.Time) bool {
	at, _ := s.next()
	return !at.IsZero() && !now.Before(at)
}

// plan makes the schedule of a pair that has become the current one.
func (m *Manager) plan(now time.Time) {
	m.schedule = schedule{normal: m.renewal(m.current)}
	m.watchAnchors(now)
}

// renewal is two thirds into the pair's lifetime, give or take a tenth of what is then left, or when the signer advises it if that is
// earlier. Advice may be anybody's who can annotate requests: it never delays a renewal, and in the first third of the lifetime it
// counts for nothing, so that it cannot have the agent ask without end. It is not kept over a restart.
func (m *Manager) renewal(p *credential.Pair) time.Time {
	leaf := p.Leaf()
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	third := lifetime / 3
	own := leaf.NotBefore.Add(lifetime - third + time.Duration((2*m.jitter()-1)*float64(third)/10))
	if p.Advised.Before(own) && p.Advised.After(leaf.NotBefore.Add(third)) {
		return p.Advised
	}
	return own
}

// watchAnchors compares the current pair with its signer's bundle, when either has changed.
func (m *Manager) watchAnchors(now time.Time) {
	own := m.trust.own()
	if m.current == nil || own == nil {
		return
	}
	switch err := m.current.LeadsTo(own, now); {
	case err == nil:
		m.schedule.distrust = time.Time{}
	case m.schedule.distrust.IsZero():
		m.schedule.distrust = now.Round(0).Add(m.spread(distrustSpread))
	}
	m.schedule.anchor = m.anchorRenewal(own, now)
}

// anchorRenewal is when the pair is renewed because its CA is being replaced:
// some time after the start of an anchor that is newer than the pair, spread
// over a third of what is then left of it. Once renewed, the pair is the newer.
func (m *Manager) anchorRenewal(own *credential.Bundle, now time.Time) time.Time {
	leaf, newest := m.current.Leaf(), time.Time{}
	for _, cert := range own.Certs {
		if cert.IsCA && cert.NotBefore.After(leaf.NotBefore) && cert.NotBefore.After(newest) {
			newest = cert.NotBefore
		}
	}
	if newest.IsZero() || !newest.After(m.answered) {
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
	return earliest.Add(m.spread(left / 3))
}

// answerAnchors remembers the newest anchor that was there when a pair was
// written: a signer that issues certificates which are older than its anchors
// would have the agent renew without end.
func (m *Manager) answerAnchors() {
	for _, cert := range m.trust.own().Certs {
		if cert.IsCA && cert.NotBefore.After(m.answered) {
			m.answered = cert.NotBefore
		}
	}
}

// readRenewFile looks for a time at which a person asked for a renewal. One in the
// future is waited for, one that the pair has followed counts no more, so that no
// value, and no clock, can have the agent renew without end.
func (m *Manager) readRenewFile(now time.Time) {
	if m.config.RenewFile == "" {
		return
	}
	data, err := readAtMost(m.config.RenewFile, maxRenewBytes)
	if err != nil {
		return // the volume shows the file as soon as the kubelet has written it
	}
	at, err := parseTime(data)
	if err != nil {
		m.say(renewTopic, slog.LevelWarn, "ignoring the annotation that asks to renew: "+err.Error())
		return
	}
	m.notes.set(renewTopic, "")
	if !at.After(now) {
		m.asked = at
	}
	if m.current == nil {
		return
	}
	if at.IsZero() || at.After(now) || !at.After(m.current.Renew) || !at.After(m.current.Leaf().NotBefore) {
		m.schedule.asked = time.Time{}
		return
	}
	if m.schedule.asked.IsZero() {
		m.schedule.asked = now.Round(0).Add(m.spread(renewSpread))
		if soonest := m.requested.Add(renewGap); m.schedule.asked.Before(soonest) {
			m.schedule.asked = soonest.Round(0)
		}
		m.log.Info("asked to renew", "at", timestamp(at), "renewal", timestamp(m.schedule.asked))
	}
}

// parseTime reads a time in the form of RFC 3339; nothing is the zero time.
func parseTime(data []byte) (time.Time, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, string(data))
	if err != nil || len(data) > maxRenewBytes {
		return time.Time{}, fmt.Errorf("%.64q is not a time in the form of RFC 3339, such as 2026-01-31T09:30:00Z", data)
	}
	return at, nil
}

// spread returns a part of d, at random.
func (m *Manager) spread(d time.Duration) time.Duration {
	return time.Duration(m.jitter() * float64(d))
}
