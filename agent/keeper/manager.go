// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/backoff"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/files"
	"github.com/certwright/certwright/agent/metrics"
	"github.com/certwright/certwright/agent/reload"
	"github.com/certwright/certwright/agent/renewal"
	"github.com/certwright/certwright/agent/request"
	"github.com/certwright/certwright/agent/store"
)

const (
	// tick is how often clock and trust bundle are looked at; quickTick while an
	// issued certificate waits for the trust bundle.
	tick      = 5 * time.Second
	quickTick = 500 * time.Millisecond
	// After a refused renewal the next comes after renewBackoff, then twice as long, up to maxRenewBackoff.
	renewBackoff    = time.Minute
	maxRenewBackoff = 15 * time.Minute
	// minGap lies between two requests at least.
	minGap = 10 * time.Second
)

// Manager keeps the directory of a Config fresh.
type Manager struct {
	config      agent.Config
	names       credential.Names
	fingerprint string // of config
	clock       clock.Clock
	jitter      func() float64
	log         *slog.Logger
	requester   *request.Requester
	store       *store.Store
	notes       *notes
	results     chan result
	wait        *backoff.Backoff
	metrics     *metrics.Metrics
	started     time.Time        // zero once the first pair is written
	reload      *reload.Reloader // nil: the application looks by itself
	changed     func(Snapshot)
	told        Snapshot // what changed was called with

	trust     trustFiles
	written   written
	current   *credential.Pair // written.pair while it is valid, else nil
	password  string
	schedule  *renewal.Schedule // of current
	asked     time.Time         // what the RenewFile said last
	candidate *credential.Pair  // issued, waiting for the bundle
	heldSince time.Time         // when candidate was issued

	open       *request.Ticket // a request of an earlier run to go on with
	requesting bool
	requested  time.Time // when the last request was begun
	notBefore  time.Time // of the next request, by the wall clock: a node that slept has slept off a pause, too
	due        time.Time // since when a pair is wanted; zero while none is
}

// written is what the directory holds.
type written struct {
	pair   *credential.Pair // may have expired: it is kept until there is another
	bundle *credential.Bundle
}

// Options are what a Manager needs beside its Config.
type Options struct {
	API request.API
	Log *slog.Logger
	// PodIPs is the value of the environment variable agent.PodIPsEnv.
	PodIPs string
	Clock  clock.Clock
	// Jitter returns numbers in [0, 1) that spread renewals and retries.
	Jitter func() float64
	// Started is when the process was, for the log; zero if that is not known.
	Started time.Time
	// Changed, if not nil, is called with each key pair and bundle that is on disk,
	// from Run's goroutine.
	Changed func(Snapshot)
}

// New returns a Manager for a Config that agent.ParseConfig returned. It does nothing
// until Run.
func New(config agent.Config, o Options) (*Manager, error) {
	resolved, err := config.Names(o.PodIPs)
	if err != nil {
		return nil, err
	}
	directory := store.New(config.Directory, files.Private(config)...)
	m := &Manager{
		config: config, names: resolved, fingerprint: config.Fingerprint(resolved),
		clock: o.Clock, jitter: o.Jitter, log: o.Log,
		store:    directory,
		trust:    followFiles(config.TrustBundleFiles),
		results:  make(chan result, 1),
		wait:     backoff.New(renewBackoff, maxRenewBackoff, o.Jitter),
		schedule: renewal.New(o.Jitter),
		metrics:  new(metrics.Metrics),
		started:  o.Started,
		changed:  o.Changed,
	}
	m.notes = &notes{store: m.store, log: m.log, texts: make(map[string]string)}
	m.requester = request.New(request.Options{
		API: o.API, Journal: directory, Clock: o.Clock, Jitter: o.Jitter, Log: o.Log,
		SignerName: config.SignerName, KeyAlgorithm: config.KeyAlgorithm, Duration: time.Duration(config.Duration), Usages: config.Usages,
		Names: resolved, Fingerprint: m.fingerprint,
		Status: func(text string) bool { return m.notes.set(requestTopic, text) },
		Failed: m.metrics.RenewalFailed,
	})
	if config.Reload != nil {
		m.reload = reload.New(*config.Reload, reload.Options{
			Directory: config.Directory, Log: o.Log, Clock: o.Clock, Jitter: o.Jitter,
			Done: m.reloaded, Failed: m.metrics.ReloadFailed,
		})
	}
	return m, nil
}

// Run keeps the directory fresh until ctx ends, which is no error; with
// Config.Once, until it is fresh. It returns a *apiserver.RequestError when a request got a
// verdict against it and the directory holds no valid pair to go on with.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	if err := errors.Join(m.store.SetStatus("starting"), m.store.SetStatus("")); err != nil {
		cancel()
		return fmt.Errorf("directory %q must exist and be writable by user %d: %w", m.config.Directory, os.Getuid(), err)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel() // ends a request under way; nobody waits for it
	m.adopt()
	m.startBeside(ctx, &beside)
	for {
		now := m.clock.Now()
		m.followBundle(now)
		if err := m.install(now); err != nil {
			return err
		}
		m.expire(now)
		m.readRenewFile(now)
		m.announce()
		if m.config.Once && m.fresh(now) {
			return nil
		}
		m.noteDue(now)
		m.request(ctx, now)
		if err := m.pause(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// pause waits for the next tick, or for what came of a request.
func (m *Manager) pause(ctx context.Context) error {
	pause := tick
	if m.candidate != nil {
		pause = quickTick
	}
	timer := m.clock.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case r := <-m.results:
		return m.receive(ctx, r)
	case <-timer.C():
	}
	return nil
}

// fresh reports whether the directory holds all that it should.
func (m *Manager) fresh(now time.Time) bool {
	if m.config.TrustOnly {
		return m.written.bundle != nil && m.written.bundle.Equal(m.trust.all)
	}
	return m.current != nil && m.candidate == nil && !m.wanted(now)
}

// followBundle reads the trust bundle and, when it has changed and is good,
// rewrites the directory with it. The pair there stays as it is until there is
// another: one that no longer leads to the bundle, since peers may know other
// anchors, but it is renewed soon; and one that has expired, since the application
// has to know whom to trust while it waits. The first bundle waits for the first pair.
func (m *Manager) followBundle(now time.Time) {
	own := m.trust.own()
	if err := m.trust.read(now); err != nil {
		doing := "keeping the last good trust bundle: "
		if m.trust.all == nil {
			doing = "waiting for the trust bundle: "
		}
		m.say(bundleTopic, slog.LevelWarn, doing+err.Error())
	} else {
		m.notes.set(bundleTopic, "")
	}
	if own != m.trust.own() {
		m.schedule.Follow(m.trust.own(), now)
	}
	if m.written.pair == nil && !m.config.TrustOnly || m.trust.all == nil || m.trust.all.Equal(m.written.bundle) {
		return
	}
	if m.write(m.written.pair, now) {
		log := m.log.With("certificates", len(m.trust.all.Certs))
		if m.current != nil {
			log = log.With("certificateTrusted", m.schedule.Trusted())
		}
		log.Info("wrote the new trust bundle")
	}
}
