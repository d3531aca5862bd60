// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"net/http"
	"time"
)

// login gets a token, as the one whose turn it is. Credentials that did not help are not shown again for a while, unless they
// change.
func (s *Session) login(ctx context.Context) (string, error) {
	c, err := s.method.credentials(ctx)
	if err != nil {
		return "", err
	}
	from, now := c.fingerprint(), s.clock.Now()
	s.mu.Lock()
	banned := s.banned
	s.mu.Unlock()
	if banned.from == from && now.Before(banned.until) {
		return "", banned.err
	}
	held, err := s.ask(ctx, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		no := Said(err)
		err = loginError(err)
		if _, secretID := s.method.(appRoleMethod); secretID && no != nil && no.judged() {
			s.banned = banned.after(now, from, err, rare)
		} else if no != nil && !no.away() {
			s.banned = banned.after(now, from, err, usual)
		}
		return "", err
	}
	held.from = from
	s.held, s.banned = held, pause{}
	return held.value, nil
}

// ask shows the credentials to Vault.
func (s *Session) ask(ctx context.Context, c credentials) (token, error) {
	if c.token != "" {
		return s.lookup(ctx, c.token)
	}
	var granted auth
	before := s.clock.Now()
	if err := s.api.call(ctx, http.MethodPost, c.path, "", c.body, &granted); err != nil {
		return token{}, err
	}
	return lease(granted.ClientToken, granted.Renewable, granted.LeaseDuration, before), nil
}

// lookup asks how long a token from a Secret lives. A token that may not ask is taken as it is: whether it is good is seen when it
// is used.
func (s *Session) lookup(ctx context.Context, value string) (token, error) {
	var found struct {
		TTL       int64 `json:"ttl"` // in seconds, 0 for one that never ends
		Renewable bool  `json:"renewable"`
	}
	before := s.clock.Now()
	err := s.api.call(ctx, http.MethodGet, "auth/token/lookup-self", value, nil, &found)
	if Status(err) == http.StatusForbidden {
		return token{value: value}, nil
	}
	if err != nil {
		return token{}, err
	}
	return lease(value, found.Renewable, found.TTL, before), nil
}

// lease is a token that was granted for some seconds, counted from before it was asked for.
func lease(value string, renewable bool, seconds int64, before time.Time) token {
	t := token{value: value, renewable: renewable}
	if seconds > 0 {
		t.granted = time.Duration(min(seconds, int64(10*365*24*time.Hour/time.Second))) * time.Second
		t.due, t.expires = before.Add(t.granted*2/3), before.Add(t.granted)
	}
	return t
}

// renew prolongs the token that is held, as the one whose turn it is, or gets a new one if it is near its last end. It returns the
// token to use: the one that is still good, if neither works.
func (s *Session) renew(ctx context.Context) string {
	s.mu.Lock()
	old := s.held
	s.mu.Unlock()
	now := s.clock.Now()
	if old.due.IsZero() || now.Before(old.due) {
		return old.value
	}
	var granted auth
	if old.renewable && s.api.call(ctx, http.MethodPost, "auth/token/renew-self", old.value, struct{}{}, &granted) == nil {
		next := lease(old.value, granted.Renewable, granted.LeaseDuration, now)
		next.from, next.granted = old.from, old.granted
		if _, ok := s.method.(tokenMethod); ok || next.expires.IsZero() || next.expires.Sub(now) >= old.granted/2 {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.held = next
			return next.value
		}
	}
	if _, ok := s.method.(tokenMethod); !ok {
		if value, err := s.login(ctx); err == nil {
			return value
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.due = now.Add(max(usual.first, s.held.expires.Sub(now)/4)) // not at every request
	return s.held.value
}
