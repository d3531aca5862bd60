// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"k8s.io/utils/clock"

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
	store   *Store
	notes   *notes
	results chan result
	wait    *backoff

	trust       trustFile
	current     *Pair   // on disk and valid, or nil
	onDisk      *Bundle // as written beside current
	distrusted  bool    // current does not lead to the last good bundle
	renewAt     time.Time
	candidate   *Pair // issued, waiting for the bundle
	candidateAt time.Time
	requesting  bool
	notBefore   time.Time // of the next request
}

type result struct {
	pair *Pair
	err  error
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
}

// New returns a Manager for a Config that ParseConfig returned. It does nothing
// until Run.
func New(config Config, o Options) (*Manager, error) {
	resolved, err := resolveNames(config, o.PodIPs)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		requester: requester{api: o.API, config: config, names: resolved, clock: o.Clock, jitter: o.Jitter, log: o.Log},
		store:     NewStore(config.Directory),
		trust:     trustFile{name: config.TrustBundleFile},
		results:   make(chan result, 1),
		wait:      newBackoff(renewBackoff, maxRenewBackoff, o.Jitter),
	}
	m.notes = &notes{store: m.store, log: m.log, texts: make(map[string]string)}
	m.requester.status = func(text string) bool { return m.notes.set(requestTopic, text) }
	return m, nil
}

// Run keeps the directory fresh until ctx ends, which is no error; with
// Config.Once, until it is fresh. It returns a *RequestError when a request got a
// verdict against it and the directory holds no valid pair to go on with.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a request under way; nobody waits for it
	if err := errors.Join(m.store.SetStatus("starting"), m.store.SetStatus("")); err != nil {
		return fmt.Errorf("directory %q must exist and be writable by user %d: %w", m.config.Directory, os.Getuid(), err)
	}
	m.adopt()
	for {
		now := m.clock.Now()
		m.followBundle(now)
		if err := m.install(now); err != nil {
			return err
		}
		m.expire(now)
		if m.config.Once && m.current != nil && !m.due(now) {
			return nil
		}
		m.request(ctx, now)
		pause := tick
		if m.candidate != nil {
			pause = quickTick
		}
		timer := m.clock.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case r := <-m.results:
			timer.Stop()
			if err := m.receive(ctx, r); err != nil {
				return err
			}
		case <-timer.C():
		}
	}
}

// adopt takes up the pair that an earlier run left, if it answers the Config.
func (m *Manager) adopt() {
	contents, err := m.store.Load()
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("the key pair on disk cannot be used, requesting another", "reason", err.Error())
		}
		return
	}
	now := m.clock.Now()
	if contents.Fingerprint != m.config.fingerprint(m.names) {
		m.log.Info("the key pair on disk answers another configuration, requesting another")
		return
	}
	if err := contents.Pair.check(m.names, now); err != nil {
		m.log.Info("the key pair on disk cannot be used, requesting another", "reason", err.Error())
		return
	}
	m.current, m.onDisk, m.trust.good = contents.Pair, contents.Bundle, contents.Bundle
	m.distrusted = m.current.leadsTo(m.onDisk, now) != nil
	m.renewAt = m.renewal(contents.Pair)
	m.log.Info("taking up the key pair on disk", "signer", m.config.SignerName, "expires", timestamp(m.current.Leaf().NotAfter), "renewal", timestamp(m.renewAt))
}

// renewal is two thirds into the pair's lifetime, give or take a tenth of what is then left, or when the signer advises it if that is
// earlier. Advice may be anybody's who can annotate requests: it never delays a renewal, and in the first third of the lifetime it
// counts for nothing, so that it cannot have the agent ask without end. It is not kept over a restart.
func (m *Manager) renewal(p *Pair) time.Time {
	leaf := p.Leaf()
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	third := lifetime / 3
	own := leaf.NotBefore.Add(lifetime - third + time.Duration((2*m.jitter()-1)*float64(third)/10))
	if p.advised.Before(own) && p.advised.After(leaf.NotBefore.Add(third)) {
		return p.advised
	}
	return own
}

// followBundle reads the trust bundle and, when it has changed and is good,
// rewrites the directory with it. A certificate that no longer leads to it stays,
// since peers may know other anchors, but is renewed at once.
func (m *Manager) followBundle(now time.Time) {
	if err := m.trust.read(now); err != nil {
		doing := "keeping the last good trust bundle: "
		if m.trust.good == nil {
			doing = "waiting for the trust bundle: "
		}
		m.say(bundleTopic, slog.LevelWarn, doing+err.Error())
		return
	}
	m.notes.set(bundleTopic, "")
	if m.current == nil || m.trust.good.equal(m.onDisk) {
		return
	}
	err := m.current.leadsTo(m.trust.good, now)
	m.distrusted = err != nil
	if m.write(m.current, now) {
		m.log.Info("wrote the new trust bundle", "certificates", len(m.trust.good.certs), "certificateTrusted", err == nil)
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
		return nil
	case m.trust.good == nil:
		return nil
	}
	if err := pair.leadsTo(m.trust.good, now); err != nil {
		m.say(distrustTopic, slog.LevelWarn, "holding the issued certificate back until the trust bundle changes: "+err.Error())
		if now.Sub(m.candidateAt) < distrustLimit {
			return nil
		}
		m.candidate = nil
		m.notes.set(distrustTopic, "")
		return m.refuse(now, &RequestError{Name: pair.request, Verdict: "Unusable", Reason: "Untrusted", Message: excerpt.Line(err.Error(), maxMessageBytes)})
	}
	if !m.write(pair, now) {
		return nil
	}
	m.candidate, m.current, m.distrusted = nil, pair, false
	m.wait.reset()
	m.notes.set(distrustTopic, "")
	left := pair.Leaf().NotAfter.Sub(now)
	m.renewAt = m.renewal(pair)
	if soonest := now.Round(0).Add(left / 3); m.renewAt.Before(soonest) {
		m.renewAt = soonest
	}
	m.log.Info("wrote a new key pair", "signer", m.config.SignerName, "expires", timestamp(pair.Leaf().NotAfter), "renewal", timestamp(m.renewAt))
	return nil
}

// write puts the pair and the last good bundle on disk and reports success.
func (m *Manager) write(pair *Pair, now time.Time) bool {
	err := m.store.Write(&Contents{Pair: pair, Bundle: m.trust.good, Fingerprint: m.config.fingerprint(m.names)}, now)
	if err != nil {
		m.say(writeTopic, slog.LevelError, fmt.Sprintf("trying again to write %s: %v", m.config.Directory, err))
		return false
	}
	m.notes.set(writeTopic, "")
	m.onDisk = m.trust.good
	return true
}

// expire gives up a pair that has expired. One that only seems not to have begun
// is kept: the clock was set back.
func (m *Manager) expire(now time.Time) {
	if m.current != nil && !now.Before(m.current.Leaf().NotAfter) {
		m.log.Error("the certificate on disk has expired and there is no other yet", "signer", m.config.SignerName, "expires", timestamp(m.current.Leaf().NotAfter))
		m.current = nil
	}
}

// due reports whether a new pair is wanted.
func (m *Manager) due(now time.Time) bool {
	return m.current == nil || !now.Before(m.renewAt) || m.distrusted
}

// request starts a request when one is wanted and none is under way.
func (m *Manager) request(ctx context.Context, now time.Time) {
	if m.requesting || m.candidate != nil || now.Before(m.notBefore) || !m.due(now) {
		return
	}
	m.requesting = true
	m.notBefore = now.Add(minGap)
	r := m.requester
	if m.current != nil { // whoever reads of trouble with a renewal sees how urgent it is
		r.log = r.log.With("keepingUntil", timestamp(m.current.Leaf().NotAfter))
	}
	go func() {
		pair, err := r.obtain(ctx)
		m.results <- result{pair, err}
	}()
}

func (m *Manager) receive(ctx context.Context, r result) error {
	m.requesting = false
	now := m.clock.Now()
	m.notes.set(requestTopic, "")
	switch {
	case r.err == nil:
		m.candidate, m.candidateAt = r.pair, now
		return nil
	case ctx.Err() == nil:
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
	pause := min(m.wait.next(), max(left/4, minGap))
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
