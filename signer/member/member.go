// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package member keeps a backend in the service of a Signer, so that whatever it does harms nobody else: it is called with a timeout that does
// not rest on its keeping to it, by a bounded number at once, is taken out of service while it fails, and gets nothing past verification. It
// also keeps what is known of the CA behind it, and lets it sign with nothing that those who verify do not have yet.
package member

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/fair"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/breaker"
)

const (
	// atOnce is how many calls a backend gets at the same time, so that a slow one does not hold all workers. A requester alone gets half
	// of them, so that one whose requests are slow leaves places for others.
	atOnce = 16
	// asidesAtOnce is how many calls it gets beside those that sign.
	asidesAtOnce = 2 * atOnce
	// queueing is how long a call waits for one of the others to return. It is longer than a backend takes that is well, and no burden
	// for a request that goes on to the next one.
	queueing = 100 * time.Millisecond
	// defaultTimeout holds where the API server's default did not.
	defaultTimeout = 5 * time.Second
	// grace is how much later than its context a call may return before nobody listens to it any more.
	grace = 200 * time.Millisecond
)

// Member is a backend in the service of a Signer. It lives as long as its configuration does not change, whatever else of the Signer
// does. It is safe for concurrent use.
type Member struct {
	backend signer.Backend
	name    string
	config  signer.BackendConfig
	clock   clock.PassiveClock
	timeout time.Duration
	places  *fair.Places  // for calls of Sign
	asides  chan struct{} // for all other calls
	breaker *breaker.Breaker
	// configured are the trust anchors that the configuration names, in place of what the backend tells.
	configured []*x509.Certificate

	mu     sync.Mutex
	calls  int
	closed bool
	// known is what is known of the backend and its CA, trusted those of its anchors that verifiers have.
	known   known
	trusted []*x509.Certificate
}

// Maker makes the members of one Signer.
type Maker struct {
	NewBackend signer.NewBackend
	Clock      clock.PassiveClock
	// OnChange is told of each change of a member's state.
	OnChange func(name string, to breaker.State)
}

// Make makes the backend of a configuration at the path. The errors are about its fields; the member has to be closed also then.
func (by Maker) Make(config signer.BackendConfig, path *field.Path) (*Member, field.ErrorList) {
	var errs field.ErrorList
	m := &Member{
		name: config.Backend.Name, config: config, clock: by.Clock, timeout: config.Backend.Timeout.Duration,
		places: fair.NewPlaces(atOnce), asides: make(chan struct{}, asidesAtOnce),
		breaker: breaker.New(by.Clock, func(_, to breaker.State) { by.OnChange(config.Backend.Name, to) }),
	}
	if m.timeout <= 0 {
		m.timeout = defaultTimeout
	}
	if text := config.Backend.TrustAnchors; text != "" {
		var err error
		if m.configured, err = ParseAnchors(text); err != nil {
			errs = append(errs, field.Invalid(path.Child("trustAnchors"), field.OmitValueType{}, err.Error()))
		}
	}
	var err error
	if m.backend, err = by.NewBackend(config); err != nil {
		m.backend = nil // an interface that holds a nil pointer is not nil
		errs = append(errs, field.Invalid(path, config.Backend.Name, err.Error()))
	}
	return m, errs
}

// Name is the backend's name in its Signer.
func (m *Member) Name() string { return m.name }

// IsFor reports whether the member was made from the same configuration.
func (m *Member) IsFor(config signer.BackendConfig) bool {
	return equality.Semantic.DeepEqual(m.config, config)
}

// ParseAnchors reads trust anchors in PEM: CA certificates, as nothing else is published.
func ParseAnchors(text string) ([]*x509.Certificate, error) {
	anchors, err := signer.ParsePEM([]byte(text))
	if err != nil {
		return nil, err
	}
	for i, c := range anchors {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("certificate %d (%s) is no CA certificate: only those can be trust anchors", i+1, c.Subject)
		}
	}
	return anchors, nil
}

// ErrGone is what calls get that come when the backend is no longer used.
var ErrGone = errors.New("it was changed or removed just now")

// use has the backend live until left is called.
func (m *Member) use() (left func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrGone
	}
	m.calls++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.calls--; m.calls == 0 && m.closed {
			m.closeBackend()
		}
	}, nil
}

// Close has no new calls begin, and closes the backend when the last one has returned. It does not wait for that.
func (m *Member) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && m.calls == 0 {
		m.closeBackend()
	}
	m.closed = true
}

func (m *Member) closeBackend() {
	if c, ok := m.backend.(io.Closer); ok {
		_ = c.Close() // nobody could do anything about an error
	}
}
