// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent/backoff"
	"github.com/certwright/certwright/agent/metrics"
	"github.com/certwright/certwright/agent/reload"
	"github.com/certwright/certwright/agent/store"
	"github.com/certwright/certwright/excerpt"
)

const (
	// tick is how often clock and trust bundle are looked at; quickTick while an
	// issued certificate waits for the trust bundle.
	tick      = 5 * time.Second
	quickTick = 500 * time.Millisecond
	// distrustLimit is how long an issued certificate that does not lead to the
	// trust bundle waits for the kubelet to bring a newer one.
	distrustLimit = 10 * time.Minute
	// After a refused renewal the next comes after renewBackoff, then twice as long, up to maxRenewBackoff.
	renewBackoff    = time.Minute
	maxRenewBackoff = 15 * time.Minute
	// minGap lies between two requests at least.
	minGap = 10 * time.Second
)

// Manager keeps the directory of a Config fresh.
type Manager struct {
	requester
	store   *store.Store
	notes   *notes
	results chan result
	wait    *backoff.Backoff
	metrics *metrics.Metrics
	reload  *reload.Reloader // nil: the application looks by itself
	changed func(Snapshot)
	told    Snapshot // what changed was called with

	trust     trustFiles
	current   *Pair   // on disk and valid, or nil
	onDisk    *Bundle // as written beside current
	password  string
	schedule  schedule  // of current
	asked     time.Time // what the RenewFile said last
	answered  time.Time // start of the newest anchor that current need not follow
	candidate *Pair     // issued, waiting for the bundle
	heldSince time.Time // when candidate was issued

	open       *ticket // a request of an earlier run to go on with
	requesting bool
	requested  time.Time // when the last request was begun
	notBefore  time.Time // of the next request
}

type result struct {
	pair *Pair
	err  error
}

// Snapshot is a key pair in use: what a program that is linked with the agent gets
// to know.
type Snapshot struct {
	Chain  []*x509.Certificate // leaf first, without the root
	Key    crypto.Signer
	Bundle []*x509.Certificate // the signer's own trust anchors
}

// Options are what a Manager needs beside its Config.
type Options struct {
	API API
	Log *slog.Logger
	// PodIPs is the value of the environment variable PodIPsEnv.
	PodIPs string
	Clock  clock.Clock
	// Jitter returns numbers in [0, 1) that spread renewals and retries.
	Jitter func() float64
	// Changed, if not nil, is called with each key pair and bundle that is on disk,
	// from Run's goroutine.
	Changed func(Snapshot)
}

// New returns a Manager for a Config that ParseConfig returned. It does nothing
// until Run.
func New(config Config, o Options) (*Manager, error) {
	resolved, err := resolveNames(config, o.PodIPs)
	if err != nil {
		return nil, err
	}
	files := store.New(config.Directory)
	m := &Manager{
		requester: requester{
			api: o.API, journal: files, config: config, names: resolved, clock: o.Clock, jitter: o.Jitter, log: o.Log,
		},
		store:   files,
		trust:   followFiles(config.TrustBundleFiles),
		results: make(chan result, 1),
		wait:    backoff.New(renewBackoff, maxRenewBackoff, o.Jitter),
		metrics: new(metrics.Metrics),
		changed: o.Changed,
	}
	m.notes = &notes{store: m.store, log: m.log, texts: make(map[string]string)}
	m.requester.status = func(text string) bool { return m.notes.set(requestTopic, text) }
	m.requester.failed = m.metrics.RenewalFailed
	if config.Reload != nil {
		m.reload = reload.New(*config.Reload, reload.Options{
			Directory: config.Directory, Log: o.Log, Clock: o.Clock, Jitter: o.Jitter,
			Done: m.reloaded, Failed: m.metrics.ReloadFailed,
		})
	}
	return m, nil
}

// Run keeps the directory fresh until ctx ends, which is no error; with
// Config.Once, until it is fresh. It returns a *RequestError when a request got a
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
		return m.onDisk != nil && m.onDisk.equal(m.trust.all)
	}
	return m.current != nil && m.candidate == nil && !m.wanted(now)
}

// adopt takes up what an earlier run left, if it answers the Config.
func (m *Manager) adopt() {
	m.adoptFiles()
	if m.config.TrustOnly {
		return
	}
	open, err := m.restore()
	switch {
	case err != nil:
		m.log.Warn("making a new request: " + err.Error())
		m.forget()
	case open == nil:
	case m.current != nil && samePublic(m.current.Key, open.key): // ended between writing the pair and forgetting its request
		m.forget()
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
	case contents.Fingerprint != m.config.fingerprint(m.names) || (contents.Pair == nil) != m.config.TrustOnly:
		err = errors.New("they answer another configuration")
	case contents.Pair != nil:
		err = contents.Pair.check(m.names, now)
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

// followBundle reads the trust bundle and, when it has changed and is good,
// rewrites the directory with it. A certificate that no longer leads to it stays,
// since peers may know other anchors, but is renewed soon.
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
		m.watchAnchors(now)
	}
	if m.current == nil && !m.config.TrustOnly || m.trust.all == nil || m.trust.all.equal(m.onDisk) {
		return
	}
	if m.write(m.current, now) {
		m.log.Info("wrote the new trust bundle", "certificates", len(m.trust.all.certs), "certificateTrusted", m.schedule.distrust.IsZero())
	}
}

// install writes an issued pair as soon as it leads to the trust bundle.
func (m *Manager) install(now time.Time) error {
	pair := m.candidate
	switch {
	case pair == nil:
		return nil
	case !pair.validAt(now):
		m.log.Warn("the issued certificate expired before it could be written, requesting another")
		m.candidate = nil
		m.forget()
		return nil
	case m.trust.own() == nil || m.trust.all == nil:
		return nil
	}
	if err := pair.leadsTo(m.trust.own(), now); err != nil {
		m.say(distrustTopic, slog.LevelWarn, "holding the issued certificate back until the trust bundle changes: "+err.Error())
		if now.Sub(m.heldSince) < distrustLimit {
			return nil
		}
		m.candidate = nil
		m.forget()
		m.notes.set(distrustTopic, "")
		return m.refuse(now, &RequestError{Name: pair.request, Verdict: "Unusable", Reason: "Untrusted", Message: excerpt.Line(err.Error(), maxMessageBytes)})
	}
	if !m.write(pair, now) {
		return nil
	}
	m.forget()
	if m.current != nil {
		m.metrics.Renewed()
	}
	m.metrics.SetNotAfter(pair.Leaf().NotAfter)
	m.candidate, m.current = nil, pair
	m.wait.Reset()
	m.notes.set(distrustTopic, "")
	m.answerAnchors()
	m.plan(now)
	// A CA near its end cuts certificates short: their share of the lifetime may have passed at once.
	if soonest := now.Round(0).Add(pair.Leaf().NotAfter.Sub(now) / 3); m.schedule.normal.Before(soonest) {
		m.schedule.normal = soonest
	}
	m.log.Info("wrote a new key pair", "signer", m.config.SignerName, "expires", timestamp(pair.Leaf().NotAfter), "renewal", timestamp(m.schedule.normal))
	return nil
}

// write puts the pair and the last good bundle on disk and reports success.
func (m *Manager) write(pair *Pair, now time.Time) bool {
	if m.password == "" {
		m.password = newPassword()
	}
	contents := &Contents{Pair: pair, Bundle: m.trust.all, Fingerprint: m.config.fingerprint(m.names), Password: m.password}
	files, err := contents.files(m.config)
	first := m.store.Generation() == ""
	if err == nil {
		err = m.store.Write(files, now)
	}
	if err != nil {
		m.say(writeTopic, slog.LevelError, fmt.Sprintf("trying again to write %s: %v", m.config.Directory, err))
		return false
	}
	m.notes.set(writeTopic, "")
	m.onDisk = m.trust.all
	m.tellApplication(first)
	return true
}

// expire gives up a pair that has expired. One that only seems not to have begun
// is kept: the clock was set back.
func (m *Manager) expire(now time.Time) {
	if m.current != nil && !now.Before(m.current.Leaf().NotAfter) {
		m.log.Error("the certificate on disk has expired and there is no other yet", "signer", m.config.SignerName, "expires", timestamp(m.current.Leaf().NotAfter))
		m.current, m.schedule = nil, schedule{}
		m.metrics.SetNotAfter(time.Time{})
	}
}

// wanted reports whether a new pair is.
func (m *Manager) wanted(now time.Time) bool {
	return !m.config.TrustOnly && (m.current == nil || m.open != nil || m.schedule.due(now))
}

// request starts a request when one is wanted and none is under way.
func (m *Manager) request(ctx context.Context, now time.Time) {
	if m.requesting || m.candidate != nil || now.Before(m.notBefore) || !m.wanted(now) {
		return
	}
	m.requesting, m.requested = true, now
	m.notBefore = now.Add(minGap)
	r := m.requester
	if m.current != nil { // whoever reads of trouble with a renewal sees how urgent it is
		r.log = r.log.With("keepingUntil", timestamp(m.current.Leaf().NotAfter))
		if _, reason := m.schedule.next(); m.schedule.due(now) {
			m.log.Info("renewing the certificate", "because", reason)
		}
	}
	o := order{open: m.open, renew: m.asked}
	m.open = nil
	go func() {
		pair, err := r.obtain(ctx, o)
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
	m.notBefore = now.Add(pause)
	m.log.Error("no renewal, keeping the valid certificate: "+verdict.Error(), "signer", m.config.SignerName,
		"validFor", left.Round(time.Second), "retryIn", pause.Round(time.Second))
	return nil
}

// say sets a note and logs it when it differs from the last one on its topic.
func (m *Manager) say(topic string, level slog.Level, text string) {
	if m.notes.set(topic, text) {
		m.log.Log(context.Background(), level, text)
	}
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
