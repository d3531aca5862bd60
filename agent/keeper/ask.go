// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"time"

	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/request"
)

// result is what came of a request.
type result struct {
	pair *credential.Pair
	err  error
}

// wanted reports whether a new pair is.
func (m *Manager) wanted(now time.Time) bool {
	return !m.config.TrustOnly && (m.current == nil || m.open != nil || m.schedule.Due(now))
}

// noteDue notes since when a new pair is wanted, for those who watch: a request may wait without anything failing.
func (m *Manager) noteDue(now time.Time) {
	switch at, _ := m.schedule.Next(); {
	case !m.wanted(now) && !m.requesting && m.candidate == nil:
		m.due = time.Time{}
	case !m.due.IsZero():
	case m.schedule.Due(now):
		m.due = at
	default:
		m.due = now
	}
	m.metrics.SetRenewalDue(m.due)
}

// resting reports whether it is too early for another request. No pause is as long as the one that a clock leaves which was set back.
func (m *Manager) resting(now time.Time) bool {
	return now.Before(m.notBefore) && m.notBefore.Sub(now) <= maxRenewBackoff
}

// request starts a request when one is wanted and none is under way.
func (m *Manager) request(ctx context.Context, now time.Time) {
	if m.requesting || m.candidate != nil || m.resting(now) || !m.wanted(now) {
		return
	}
	m.requesting, m.requested = true, now
	m.notBefore = now.Round(0).Add(minGap)
	r := m.requester
	if m.current != nil { // whoever reads of trouble with a renewal sees how urgent it is
		r = r.WithLog(m.log.With("keepingUntil", timestamp(m.current.Leaf().NotAfter)))
		if _, reason := m.schedule.Next(); m.schedule.Due(now) {
			m.log.Info("renewing the certificate", "because", reason)
		}
	}
	o := request.Order{Open: m.open, Renew: m.asked}
	m.open = nil
	go func() {
		pair, err := r.Obtain(ctx, o)
		m.results <- result{pair, err}
	}()
}

func (m *Manager) receive(ctx context.Context, r result) error {
	m.requesting = false
	now := m.clock.Now()
	m.notes.set(requestTopic, "")
	switch {
	case r.err == nil:
		m.candidate, m.heldSince = r.pair, now
		return nil
	case ctx.Err() == nil:
		m.metrics.RenewalFailed()
		return m.refuse(now, r.err)
	}
	return nil // the agent is told to end: what became of the request no longer matters
}

// refuse deals with a verdict: fatal, unless there is a valid pair to keep.
func (m *Manager) refuse(now time.Time, verdict error) error {
	if m.expire(now); m.current == nil {
		return verdict
	}
	left := m.current.Leaf().NotAfter.Sub(now)
	pause := min(m.wait.Next(), max(left/4, minGap))
	m.notBefore = now.Round(0).Add(pause)
	m.log.Error("no renewal, keeping the valid certificate: "+verdict.Error(), "signer", m.config.SignerName,
		"validFor", left.Round(time.Second), "retryIn", pause.Round(time.Second))
	return nil
}
