// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// parallel is how many servers are asked at once.
const parallel = 16

// Served returns nil if each authoritative server of a zone, at each of its addresses, serves a TXT record with this value at
// the name, and otherwise says which one does not and why. An address that does not answer, as is common where IPv6 leads
// nowhere, says nothing if another one of the same server answers: who verifies the challenge asks that one, too.
func (r *Resolver) Served(ctx context.Context, zone, name, value string) error {
	zone, err := txt.Name(zone)
	if err != nil {
		return err
	}
	if name, err = txt.Name(name); err != nil {
		return err
	}
	hosts, err := r.nameserversOf(ctx, zone)
	if err != nil {
		return err
	}
	reasons := make([]error, len(hosts))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, host := range hosts {
		group.Go(func() error {
			reasons[i] = r.servedBy(ctx, host, name, value)
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	if reasons = slices.DeleteFunc(reasons, func(err error) bool { return err == nil }); len(reasons) > 0 {
		return fmt.Errorf("%d of the %d name servers of %s: %w", len(reasons), len(hosts), zone, reasons[0])
	}
	return nil
}

// nameserversOf returns the names of a zone's authoritative servers (RFC 1034, section 4.2.1).
func (r *Resolver) nameserversOf(ctx context.Context, zone string) ([]string, error) {
	answer, err := r.lookup(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, rr := range answer.Answer {
		ns, ok := rr.(*dns.NS)
		if !ok || dns.CanonicalName(ns.Hdr.Name) != zone {
			continue
		}
		host, err := txt.Name(ns.Ns)
		if err != nil {
			return nil, fmt.Errorf("the NS records of %s: %w", zone, err)
		}
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	switch {
	case len(hosts) == 0:
		return nil, fmt.Errorf("%s has no NS records for the nameservers that were asked", zone)
	case len(hosts) > maxServers:
		return nil, fmt.Errorf("%s has %d name servers, and at most %d are asked", zone, len(hosts), maxServers)
	}
	return hosts, nil
}

// servedBy returns nil if one name server serves the value at all its addresses that answer.
func (r *Resolver) servedBy(ctx context.Context, host, name, value string) error {
	addresses, err := r.addresses(ctx, host)
	if err != nil {
		return err
	}
	verdicts := make([]error, len(addresses))
	var running sync.WaitGroup
	for i, address := range addresses {
		running.Go(func() { verdicts[i] = r.servedAt(ctx, net.JoinHostPort(address, r.port), name, value) })
	}
	running.Wait()
	served := false
	var silence *silentError
	for i, err := range verdicts {
		if err != nil && !errors.As(err, &silence) {
			return fmt.Errorf("%s (%s) %w", strings.TrimSuffix(host, "."), addresses[i], err)
		}
		served = served || err == nil
	}
	if !served {
		return fmt.Errorf("%s (%s) %w", strings.TrimSuffix(host, "."), strings.Join(addresses, ", "), silence)
	}
	return nil
}

// silentError is why there is no answer.
type silentError struct{ err error }

func (e *silentError) Error() string { return "does not answer: " + e.err.Error() }
func (e *silentError) Unwrap() error { return e.err }

// addresses returns the addresses of a host, IPv4 and IPv6.
func (r *Resolver) addresses(ctx context.Context, host string) ([]string, error) {
	var found []string
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := r.lookup(ctx, host, kind)
		if err != nil {
			return nil, err
		}
		for _, rr := range answer.Answer {
			switch record := rr.(type) {
			case *dns.A:
				found = append(found, record.A.String())
			case *dns.AAAA:
				found = append(found, record.AAAA.String())
			}
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%s has no address", strings.TrimSuffix(host, "."))
	case len(found) > maxAddresses:
		return nil, fmt.Errorf("%s has %d addresses, and at most %d are asked", strings.TrimSuffix(host, "."), len(found), maxAddresses)
	}
	return found, nil
}

// servedAt asks one authoritative server. It asks for no recursion: what another server knows is of no interest.
func (r *Resolver) servedAt(ctx context.Context, server, name, value string) error {
	answer, err := ask(ctx, server, name, dns.TypeTXT, false)
	if err != nil && ctx.Err() == nil {
		answer, err = ask(ctx, server, name, dns.TypeTXT, false) // UDP loses packets
	}
	switch {
	case err != nil:
		return &silentError{err}
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return fmt.Errorf("answers %s", dns.RcodeToString[answer.Rcode])
	case !answer.Authoritative:
		return errors.New("is not authoritative: the delegation of the zone names a server that does not have it")
	}
	for _, rr := range answer.Answer {
		if record, ok := rr.(*dns.TXT); ok && dns.CanonicalName(record.Hdr.Name) == name && strings.Join(record.Txt, "") == value {
			return nil
		}
	}
	return errors.New("does not serve the value yet")
}
