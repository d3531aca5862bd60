// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/certwright/certwright/agent/backoff"
)

// A port that is taken is tried again after servePause, then twice as long, up to maxServePause.
const (
	servePause    = 250 * time.Millisecond
	maxServePause = 30 * time.Second
)

// Snapshot is the key pair and bundle in use: what a program that is linked with the
// agent gets to know.
type Snapshot struct {
	Chain  []*x509.Certificate // leaf first, without the root
	Key    crypto.Signer
	Bundle []*x509.Certificate // the signer's own trust anchors
}

// startBeside starts what runs beside the renewal and never holds it up.
func (m *Manager) startBeside(ctx context.Context, group *sync.WaitGroup) {
	if m.reload != nil {
		// An earlier run may have ended between a change and telling of it.
		if generation := m.store.Generation(); generation != "" && generation != m.store.Reloaded() {
			m.reload.Changed(generation)
		}
		group.Go(func() { m.reload.Run(ctx) })
	}
	if m.config.MetricsAddress != "" {
		group.Go(func() { m.serveMetrics(ctx) })
	}
}

func (m *Manager) serveMetrics(ctx context.Context) {
	wait := backoff.New(servePause, maxServePause, m.jitter)
	serves := func() { m.notes.set(serveTopic, "") }
	for ctx.Err() == nil {
		if err := m.metrics.Serve(ctx, m.config.MetricsAddress, serves); err != nil && ctx.Err() == nil {
			m.say(serveTopic, slog.LevelError, err.Error())
			timer := m.clock.NewTimer(wait.Next())
			select {
			case <-ctx.Done():
			case <-timer.C():
			}
			timer.Stop()
		}
	}
}

// tellApplication has the application learn of what was written, unless it is the
// first that there is to read.
func (m *Manager) tellApplication(first bool) {
	if m.reload == nil {
		return
	}
	if generation := m.store.Generation(); first {
		m.remember(generation)
	} else {
		m.reload.Changed(generation)
	}
}

// reloaded is called when the application was told of a generation.
func (m *Manager) reloaded(generation string) {
	m.metrics.Reloaded()
	m.remember(generation)
}

func (m *Manager) remember(generation string) {
	if err := m.store.SetReloaded(generation); err != nil {
		m.log.Warn("the application will be told of its files again after a restart: " + err.Error())
	}
}

// announce passes on what is on disk when it is new, as in the files also beside a
// pair that has expired. The bundle is that of the signer alone: the anchors of
// others vouch for nobody in its trust domain.
func (m *Manager) announce() {
	pair, own := m.written.pair, m.trust.own()
	if m.changed == nil || pair == nil || own == nil {
		return
	}
	if slices.Equal(m.told.Chain, pair.Chain) && slices.EqualFunc(m.told.Bundle, own.Certs, (*x509.Certificate).Equal) {
		return
	}
	m.told = Snapshot{Chain: slices.Clone(pair.Chain), Key: pair.Key, Bundle: slices.Clone(own.Certs)}
	m.changed(m.told)
}
