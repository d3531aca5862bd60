// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package session talks to Vault as somebody who is logged in: it keeps one login for all requests, renews it before it ends, and
// makes it anew when Vault refuses it. It promises that a storm of refusals becomes no storm of logins, and that no token, secret
// ID or JWT gets into an error, whatever Vault answers.
package session

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// earlyTime is what the renewal of a token that is still good may take of a request's time.
const earlyTime = time.Second

// bounds are those of the time between two logins after refusals, which grows by the factor with each.
type bounds struct {
	first, most time.Duration
	factor      time.Duration
}

var (
	usual = bounds{time.Second, 15 * time.Second, 2}
	// rare is for secret IDs: Vault locks the AppRole out, for all who use it, after five wrong ones with less than a quarter of an
	// hour between them (user lockout). These come after 5 s, 1 min, 12 min, and from then on so late that Vault begins to count
	// anew. The first are soon, as a Vault that is being set up takes none either.
	rare = bounds{5 * time.Second, 30 * time.Minute, 12}
)

// Session keeps the token of one login for all requests. It is safe for concurrent use.
type Session struct {
	api    *api
	method method
	clock  clock.PassiveClock

	// turn is held by who logs in or renews: nobody else does meanwhile.
	turn chan struct{}

	mu     sync.Mutex
	held   token
	banned pause // of logins, after one that was of no use
	denied pause // of logins, after a refused token
}

// token is what a login granted.
type token struct {
	value     string
	from      [sha256.Size]byte // the fingerprint of the credentials that it was granted for
	renewable bool
	granted   time.Duration // the first lifetime
	due       time.Time     // when to renew it; zero for never
	expires   time.Time     // zero for never
}

func (t token) valid(now time.Time) bool {
	return t.value != "" && (t.expires.IsZero() || now.Before(t.expires))
}

// pause grows with each refusal in a row.
type pause struct {
	until time.Time
	last  time.Duration
	from  [sha256.Size]byte
	err   error
}

func (p pause) after(now time.Time, from [sha256.Size]byte, err error, b bounds) pause {
	next := pause{last: min(max(b.factor*p.last, b.first), b.most), from: from, err: err}
	next.until = now.Add(next.last)
	return next
}

// Options are what New needs.
type Options struct {
	// Client reads Secrets of Namespace from a cache.
	Client client.Reader
	// Namespace that the Secrets are in: Certwright's own.
	Namespace string
	// TokenDir is the folder with the service account's projected tokens.
	TokenDir string
	// Vault is the backend's configuration, with its paths and names checked.
	Vault v1alpha1.Vault
	// Clock tells the time.
	Clock clock.PassiveClock
}

// New returns a session that has not begun. It does no I/O; the error is about the configuration and names the field.
func New(o Options) (*Session, error) {
	m, err := newMethod(o, o.Vault.Auth)
	if err != nil {
		return nil, err
	}
	a, err := newAPI(o.Vault, m)
	if err != nil {
		return nil, err
	}
	return &Session{api: a, method: m, clock: o.Clock, turn: make(chan struct{}, 1)}, nil
}

// Close closes the connections that nobody uses.
func (s *Session) Close() { s.api.client.CloseIdleConnections() }

// Call reads or writes a path as who is logged in, and decodes the answer's data into out. The error is an *AnswerError if Vault
// answered and did not do it, and a *signer.CheckError if the login did not work.
func (s *Session) Call(ctx context.Context, verb, path string, in, out any) error {
	return s.do(ctx, func(token string) error { return s.api.call(ctx, verb, path, token, in, out) })
}

// Read is Call for a path that everyone may read: it needs no login.
func (s *Session) Read(ctx context.Context, path string, out any) error {
	return s.api.call(ctx, http.MethodGet, path, "", nil, out)
}

// Health returns the HTTP status of sys/health, which is not in any namespace.
func (s *Session) Health(ctx context.Context) (int, error) {
	resp, err := s.api.request(ctx, http.MethodGet, "v1/sys/health", "", "", nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// do calls with a token, and once more with a new one if Vault refuses that.
func (s *Session) do(ctx context.Context, call func(token string) error) error {
	value, err := s.token(ctx)
	if err != nil {
		return err
	}
	if err = call(value); Status(err) != http.StatusForbidden {
		s.accepted(err)
		return err
	}
	value, again := s.replace(ctx, value)
	if again != nil {
		return again
	}
	if value == "" {
		return err
	}
	err = call(value)
	s.accepted(err)
	return err
}

// accepted ends the pause after refused tokens, if Vault did what was asked.
func (s *Session) accepted(err error) {
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.denied = pause{}
	}
}

// token returns one that is good, as far as is known.
func (s *Session) token(ctx context.Context) (string, error) {
	held, due, err := s.current(ctx)
	if err != nil || (held != "" && !due) {
		return held, err
	}
	if held == "" {
		if err := s.take(ctx); err != nil {
			return "", err
		}
		defer s.release()
		if held, _, err := s.current(ctx); err != nil || held != "" { // somebody else has logged in meanwhile
			return held, err
		}
		return s.login(ctx)
	}
	select {
	case s.turn <- struct{}{}:
		defer s.release()
		early, cancel := context.WithTimeout(ctx, earlyTime)
		defer cancel()
		return s.renew(early), nil
	default: // somebody else is at it
		return held, nil
	}
}

// current returns the token that is held, if it is valid, and whether it is time to renew it. A token from a Secret is that of
// the Secret as it is now.
func (s *Session) current(ctx context.Context) (value string, due bool, err error) {
	var now credentials
	if m, ok := s.method.(tokenMethod); ok {
		if now, err = m.credentials(ctx); err != nil {
			return "", false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.clock.Now()
	if !s.held.valid(at) || (now.token != "" && now.token != s.held.value) {
		return "", false, nil
	}
	return s.held.value, !s.held.due.IsZero() && !at.Before(s.held.due), nil
}

// replace returns a new token for one that Vault refused, or none if there is no better one. A refusal that a new login did not
// help against is not answered with a login each time.
func (s *Session) replace(ctx context.Context, refused string) (string, error) {
	if err := s.take(ctx); err != nil {
		return "", err
	}
	defer s.release()
	now := s.clock.Now()
	s.mu.Lock()
	if s.held.value != refused && s.held.valid(now) {
		defer s.mu.Unlock()
		return s.held.value, nil
	}
	if now.Before(s.denied.until) {
		defer s.mu.Unlock()
		return "", nil
	}
	s.denied = s.denied.after(now, s.held.from, nil, usual)
	if _, ok := s.method.(tokenMethod); !ok {
		s.held = token{}
	}
	s.mu.Unlock()
	if m, ok := s.method.(tokenMethod); ok {
		if c, err := m.credentials(ctx); err != nil || c.token == refused {
			return "", err
		}
	}
	return s.login(ctx)
}

func (s *Session) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a login to Vault: %w", ctx.Err())
	}
}

func (s *Session) release() { <-s.turn }
