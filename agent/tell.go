// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"

	"github.com/certwright/certwright/agent/backoff"
)

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
	wait := backoff.New(callBackoff, maxCallBackoff, m.jitter)
	for ctx.Err() == nil {
		if err := m.metrics.Serve(ctx, m.config.MetricsAddress); err != nil && ctx.Err() == nil {
			m.say(serveTopic, slog.LevelError, err.Error())
			_ = m.sleep(ctx, wait.Next())
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

// announce passes on what is on disk when it is new. The bundle is that of the
// signer alone: the anchors of others vouch for nobody in its trust domain.
func (m *Manager) announce() {
	own := m.trust.own()
	if m.changed == nil || m.current == nil || own == nil {
		return
	}
	if slices.Equal(m.told.Chain, m.current.Chain) && slices.EqualFunc(m.told.Bundle, own.certs, (*x509.Certificate).Equal) {
		return
	}
	m.told = Snapshot{Chain: slices.Clone(m.current.Chain), Key: m.current.Key, Bundle: slices.Clone(own.certs)}
	m.changed(m.told)
}

// samePublic reports whether two keys are one.
func samePublic(a, b crypto.Signer) bool {
	one, errA := x509.MarshalPKIXPublicKey(a.Public())
	two, errB := x509.MarshalPKIXPublicKey(b.Public())
	return errA == nil && errB == nil && bytes.Equal(one, two)
}
