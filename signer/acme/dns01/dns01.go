// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dns01 answers DNS-01 challenges (RFC 8555, section 8.4): it finds out which zone a record belongs to, has it written
// there, and looks whether all authoritative servers of the zone serve it.
//
// Who asks for a certificate chooses NAME, and may control its DNS. What they could gain, and what holds:
//   - A CNAME at _acme-challenge.NAME could lead into a zone of somebody else that we may write to. The record there would prove
//     nothing: its value is the digest of a token that the server made for NAME, and for the other name it makes another one
//     (RFC 8555, section 8.1). But the name of the record would come to exist, and with it the names above it, which takes them
//     out of a wildcard (RFC 4592, section 2.2.2). So a CNAME is followed only into domains that the administrator names.
//   - Many values at one name would crowd out those of others: a name holds txt.MaxValues at most.
//   - The name servers of NAME could be any addresses. They are asked only after the provider wrote to their zone, which it does
//     for zones that we have; and only over DNS at port 53.
//
// Package resolver bounds the rest.
package dns01

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook"
	"github.com/certwright/certwright/signer/acme/dns01/resolver"
	"github.com/certwright/certwright/signer/acme/dns01/rfc2136"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
	"github.com/certwright/certwright/signer/remote"
)

// Options are what New needs besides the configuration.
type Options struct {
	// Secrets of Certwright's own namespace.
	Secrets remote.Secrets
	// Clock tells the time. Default: the real one.
	Clock clock.PassiveClock
	// AuthorityPort is the port of authoritative servers. Default: 53.
	AuthorityPort uint16
}

// Solver answers challenges by one provider. It is safe for concurrent use and keeps no state.
type Solver struct {
	resolver    *resolver.Resolver
	writer      txt.Writer
	delegations []string
}

var (
	_ challenge.Solver  = (*Solver)(nil)
	_ challenge.Locator = (*Solver)(nil)
	_ txt.Checker       = (*Solver)(nil)
)

// New returns a solver. It does no I/O; the error is about the configuration and names the field, such as
// "dns01.rfc2136.server: ...".
func New(o Options, config v1alpha1.DNS01) (*Solver, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	s := &Solver{}
	var err error
	if s.resolver, err = resolver.New(config.Nameservers, o.AuthorityPort); err != nil {
		return nil, fmt.Errorf("dns01.nameservers%w", err)
	}
	for i, d := range config.Delegations {
		domain, err := txt.Name(d)
		if err != nil {
			return nil, fmt.Errorf("dns01.delegations[%d]: %w", i, err)
		}
		s.delegations = append(s.delegations, domain)
	}
	switch {
	case (config.RFC2136 == nil) == (config.Webhook == nil):
		return nil, errors.New("dns01: exactly one provider must be set: rfc2136 or webhook")
	case config.RFC2136 != nil:
		writer, err := rfc2136.New(*config.RFC2136, o.Secrets, o.Clock)
		if err != nil {
			return nil, fmt.Errorf("dns01.rfc2136.%w", err)
		}
		s.writer = writer
	default:
		writer, err := dnswebhook.New(*config.Webhook, o.Secrets)
		if err != nil {
			return nil, fmt.Errorf("dns01.webhook.%w", err)
		}
		s.writer = writer
	}
	return s, nil
}

// Locate implements challenge.Locator. The place is the zone and the name of the record.
func (s *Solver) Locate(ctx context.Context, c challenge.Challenge) (string, error) {
	if _, err := txt.Name(c.Domain); err != nil {
		return "", err
	}
	name, err := txt.Name(c.RecordName())
	if err != nil {
		return "", err
	}
	target, err := s.resolver.Target(ctx, name)
	if err != nil {
		return "", err
	}
	if target != name && !slices.ContainsFunc(s.delegations, func(d string) bool { return txt.Within(target, d) }) {
		return "", txt.Misconfigured("%s is an alias (CNAME) of %s, which is in none of the domains in dns01.delegations: add one that it is in, or remove the alias", name, target)
	}
	zone, err := s.resolver.Zone(ctx, target)
	if err != nil {
		return "", err
	}
	return zone + " " + target, nil
}

// Present implements challenge.Solver.
func (s *Solver) Present(ctx context.Context, c challenge.Challenge) error {
	return s.with(c, func(r txt.Record) error { return s.writer.Present(ctx, r) })
}

// CleanUp implements challenge.Solver.
func (s *Solver) CleanUp(ctx context.Context, c challenge.Challenge) error {
	return s.with(c, func(r txt.Record) error { return s.writer.CleanUp(ctx, r) })
}

// Ready implements challenge.Solver.
func (s *Solver) Ready(ctx context.Context, c challenge.Challenge) error {
	return s.with(c, func(r txt.Record) error { return s.resolver.Served(ctx, r.Zone, r.Name, r.Value) })
}

// Check implements txt.Checker.
func (s *Solver) Check(ctx context.Context) error {
	if checker, ok := s.writer.(txt.Checker); ok {
		return checker.Check(ctx)
	}
	return nil
}

// Close closes connections that are kept open.
func (s *Solver) Close() error {
	if c, ok := s.writer.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// with calls do with the record that a challenge stands for, at the place that Locate found.
func (s *Solver) with(c challenge.Challenge, do func(txt.Record) error) error {
	zone, name, _ := strings.Cut(c.Place, " ")
	record := txt.Record{Zone: zone, Name: name, Value: c.RecordValue()}
	if err := record.Validate(); err != nil {
		return fmt.Errorf("the place of the challenge for %s, %.600q, is none that Locate returned: %w", c.Domain, c.Place, err)
	}
	return do(record)
}
