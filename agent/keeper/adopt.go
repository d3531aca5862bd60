// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"io/fs"

	"github.com/certwright/certwright/agent/credential"
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
	case m.current != nil && credential.SameKey(m.current.Key, open.Signer()): // ended between writing the pair and forgetting its request
		m.requester.Forget()
	default:
		m.open = open
	}
}

func (m *Manager) adoptFiles() {
	files, err := m.store.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var contents *Contents
	if err == nil {
		contents, err = parseContents(files)
	}
	now := m.clock.Now()
	switch {
	case err != nil:
	case contents.Fingerprint != m.fingerprint || (contents.Pair == nil) != m.config.TrustOnly:
		err = errors.New("they answer another configuration")
	case contents.Pair != nil:
		err = contents.Pair.Check(m.names, now)
	}
	if err != nil {
		m.log.Warn("the files on disk cannot be used, replacing them", "reason", err.Error())
		return
	}
	m.password = contents.Password
	m.trust.adopt(contents.Bundle)
	if contents.complete(m.config) { // else the first look at the bundle writes what is missing
		m.onDisk = contents.Bundle
	}
	if m.current = contents.Pair; m.current == nil {
		m.log.Info("taking up the trust bundle on disk")
		return
	}
	m.metrics.SetNotAfter(m.current.Leaf().NotAfter)
	m.plan(now)
	m.log.Info("taking up the key pair on disk", "signer", m.config.SignerName, "expires", timestamp(m.current.Leaf().NotAfter), "renewal", timestamp(m.schedule.normal))
}
