// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/files"
	"github.com/certwright/certwright/excerpt"
)

// distrustLimit is how long an issued certificate that does not lead to the trust
// bundle waits for the kubelet to bring a newer one.
const distrustLimit = 10 * time.Minute

// install writes an issued pair as soon as it leads to the trust bundle, the one that is written beside it.
func (m *Manager) install(now time.Time) error {
	pair := m.candidate
	switch {
	case pair == nil:
		return nil
	case !pair.ValidAt(now):
		m.log.Warn("the issued certificate expired before it could be written, requesting another")
		m.candidate = nil
		m.requester.Forget()
		return nil
	case m.trust.own() == nil || m.trust.all == nil:
		return nil
	}
	if err := m.trust.vouch(pair, now); err != nil {
		m.say(distrustTopic, slog.LevelWarn, "holding the issued certificate back until the trust bundle changes: "+err.Error())
		if now.Sub(m.heldSince) < distrustLimit {
			return nil
		}
		m.candidate = nil
		m.requester.Forget()
		m.notes.set(distrustTopic, "")
		return m.refuse(now, &apiserver.RequestError{Name: pair.Request, Verdict: "Unusable", Reason: "Untrusted", Message: excerpt.Line(err.Error(), apiserver.MaxMessageBytes)})
	}
	if !m.write(pair, now) {
		return nil
	}
	if !m.started.IsZero() {
		m.log.Info("the certificate is in place", "after", m.clock.Since(m.started).Round(time.Millisecond), "waited", pair.Waited.Round(time.Millisecond))
		m.started = time.Time{}
	}
	m.requester.Forget()
	if m.current != nil {
		m.metrics.Renewed()
	}
	m.metrics.SetNotAfter(pair.Leaf().NotAfter)
	m.candidate, m.current = nil, pair
	m.wait.Reset()
	m.notes.set(distrustTopic, "")
	m.schedule.Begin(pair, m.trust.own(), now)
	m.log.Info("wrote a new key pair", "signer", m.config.SignerName, "expires", timestamp(pair.Leaf().NotAfter), "renewal", timestamp(m.schedule.Normal()))
	return nil
}

// write puts the pair and the last good bundle on disk and reports success.
func (m *Manager) write(pair *credential.Pair, now time.Time) bool {
	if m.password == "" {
		m.password = files.NewPassword()
	}
	set := &files.Set{Pair: pair, Bundle: m.trust.all, Fingerprint: m.fingerprint, Password: m.password}
	rendered, err := set.Render(m.config)
	first := m.store.Generation() == ""
	if err == nil {
		err = m.store.Write(rendered, now)
	}
	if err != nil {
		m.say(writeTopic, slog.LevelError, fmt.Sprintf("trying again to write %s: %v", m.config.Directory, err))
		return false
	}
	m.notes.set(writeTopic, "")
	m.written = written{pair, m.trust.all}
	m.tellApplication(first)
	return true
}

// expire takes a pair that has expired for none, though it stays on disk. One that
// only seems not to have begun counts: the clock was set back.
func (m *Manager) expire(now time.Time) {
	if m.current != nil && !now.Before(m.current.Leaf().NotAfter) {
		m.log.Error("the certificate on disk has expired and there is no other yet", "signer", m.config.SignerName, "expires", timestamp(m.current.Leaf().NotAfter))
		m.current = nil
		m.schedule.Clear()
		m.metrics.SetNotAfter(time.Time{})
	}
}
