// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package provider is what the DNS providers have in common: which names may be written at all, one writer at a time for each
// name, and another try when somebody else was faster.
package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// tries is how often a change is made anew when somebody else changed the same name in between.
const tries = 8

// ErrConflict is what a writer returns when the records at a name are not those that it read a moment ago. It changed nothing.
var ErrConflict = errors.New("the records at this name are changed by others again and again")

// Names says which records may be written.
type Names struct {
	// Zones in which names that begin with _acme-challenge may be written.
	Zones []string
	// Delegated zones, which serve nothing else, and in which all names may be written.
	Delegated []string
}

// ParseNames reads lists of zones, and returns an error if both are empty.
func ParseNames(zones, delegated []string) (Names, error) {
	if len(zones)+len(delegated) == 0 {
		return Names{}, errors.New("name the zones that may be written, in --zones or --delegated-zones")
	}
	var n Names
	for _, list := range []struct {
		from []string
		to   *[]string
	}{{zones, &n.Zones}, {delegated, &n.Delegated}} {
		for _, s := range list.from {
			zone, err := txt.Name(s)
			if err != nil {
				return Names{}, err
			}
			*list.to = append(*list.to, zone)
		}
	}
	return n, nil
}

// allow returns an error if a record may not be written.
func (n Names) allow(r txt.Record) error {
	switch {
	case slices.Contains(n.Delegated, r.Zone):
		return nil
	case !slices.Contains(n.Zones, r.Zone):
		return txt.Misconfigured("zone %s is not one of those that certwright-dns may write to: add it to --zones if it should be", r.Zone)
	case !strings.HasPrefix(r.Name, txt.Prefix):
		return txt.Misconfigured("%s does not begin with %s: if the zone %s serves nothing but challenges, put it into --delegated-zones", r.Name, strings.TrimSuffix(txt.Prefix, "."), r.Zone)
	}
	return nil
}

// Guard is a txt.Writer in front of that of a provider. Many providers only let a name's records be replaced as a whole, so
// changes at one name are made one after the other; what other processes do there shows as ErrConflict.
type Guard struct {
	names  Names
	writer txt.Writer
	locks  locks
}

// NewGuard returns a guard for a writer.
func NewGuard(writer txt.Writer, names Names) *Guard { return &Guard{names: names, writer: writer} }

// Present implements txt.Writer.
func (g *Guard) Present(ctx context.Context, r txt.Record) error {
	return g.change(ctx, r, g.writer.Present)
}

// CleanUp implements txt.Writer.
func (g *Guard) CleanUp(ctx context.Context, r txt.Record) error {
	return g.change(ctx, r, g.writer.CleanUp)
}

// Check implements txt.Checker.
func (g *Guard) Check(ctx context.Context) error {
	if c, ok := g.writer.(txt.Checker); ok {
		return c.Check(ctx)
	}
	return nil
}

func (g *Guard) change(ctx context.Context, r txt.Record, do func(context.Context, txt.Record) error) error {
	if err := g.names.allow(r); err != nil {
		return err
	}
	unlock, err := g.locks.lock(ctx, r.Name)
	if err != nil {
		return fmt.Errorf("waiting for another change of %s: %w", r.Name, err)
	}
	defer unlock()
	for range tries {
		if err = do(ctx, r); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return err
}

// locks are one lock for each name that is changed now.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	free  chan struct{} // holds one element while nobody has the lock
	users int
}

// lock waits for the lock of a name, as long as the context allows, and returns what gives it back.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	one := l.held[name]
	if one == nil {
		one = &lock{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		l.held[name] = one
	}
	one.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.held, name)
		}
	}
	select {
	case <-one.free:
		return func() {
			one.free <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// Zones remembers what a provider calls a zone.
type Zones struct{ ids sync.Map }

// ID returns what the provider calls a zone, from memory or by find.
func (z *Zones) ID(zone string, find func() (string, error)) (string, error) {
	if id, ok := z.ids.Load(zone); ok {
		return id.(string), nil
	}
	id, err := find()
	if err == nil {
		z.ids.Store(zone, id)
	}
	return id, err
}

// Failed returns an error about a zone, or about none: a *txt.ConfigError if the HTTP status says that credentials or permissions are wrong, or
// that the zone is gone, which is then forgotten.
func (z *Zones) Failed(doing, zone string, status int, err error) error {
	if zone != "" {
		doing += " the zone " + zone
	}
	err = fmt.Errorf("%s: %w", doing, err)
	switch status {
	case http.StatusNotFound:
		z.ids.Delete(zone)
		return &txt.ConfigError{Err: err}
	case http.StatusUnauthorized, http.StatusForbidden:
		return &txt.ConfigError{Err: err}
	}
	return err
}

// CheckKeys returns an error if a configuration has keys that a provider does not know, or lacks some that it needs.
func CheckKeys(config map[string]string, needed, optional []string) error {
	for key := range config {
		if key != "provider" && !slices.Contains(needed, key) && !slices.Contains(optional, key) {
			return txt.Misconfigured("config: the provider %s knows no key %.80q, only %s", config["provider"], key, strings.Join(slices.Concat([]string{"provider"}, needed, optional), ", "))
		}
	}
	for _, key := range needed {
		if config[key] == "" {
			return txt.Misconfigured("config: the provider %s needs the key %q", config["provider"], key)
		}
	}
	return nil
}
