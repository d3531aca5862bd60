// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"io/fs"

	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/files"
)

// adopt takes up what an earlier run left, if it answers the Config.
func (m *Manager) adopt() {
	m.adoptFiles()
	if m.config.TrustOnly {
		return
	}
	open, err := m.requester.Restore()
	switch {
	case err != nil:
		m.log.Warn("making a new request: " + err.Error())
		m.requester.Forget()
	case open == nil:
	case m.written.pair != nil && credential.SameKey(m.written.pair.Key, open.Signer()): // ended between writing the pair and forgetting its request
		m.requester.Forget()
	default:
		m.open = open
	}
}

// adoptFiles takes up what is on disk. A pair that has expired is good for nothing but
// to be kept until there is another.
func (m *Manager) adoptFiles() {
	rendered, err := m.store.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var held *files.Set
	if err == nil {
		held, err = files.Parse(rendered)
	}
	now := m.clock.Now()
	switch {
	case err != nil:
	case held.Fingerprint != m.fingerprint || (held.Pair == nil) != m.config.TrustOnly:
		err = errors.New("they answer another configuration")
	case held.Pair != nil:
		err = held.Pair.Answers(m.names)
	}
	if err != nil {
		m.log.Warn("the files on disk cannot be used, replacing them", "reason", err.Error())
		return
	}
	m.password = held.Password
	m.trust.adopt(held.Bundle)
	m.written.pair = held.Pair
	if held.Complete(m.config) { // else the first look at the bundle writes what is missing
		m.written.bundle = held.Bundle
	}
	if held.Pair == nil {
		m.log.Info("taking up the trust bundle on disk")
		return
	}
	if err := held.Pair.Check(m.names, now); err != nil {
		m.log.Warn("keeping the files on disk until there is a new key pair: " + err.Error())
		return
	}
	m.current = held.Pair
	m.metrics.SetNotAfter(m.current.Leaf().NotAfter)
	m.schedule.Adopt(m.current, m.trust.own(), now)
	m.log.Info("taking up the key pair on disk", "signer", m.config.SignerName, "expires", timestamp(m.current.Leaf().NotAfter), "renewal", timestamp(m.schedule.Normal()))
}
