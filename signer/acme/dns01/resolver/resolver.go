// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package resolver asks the DNS where the TXT record of a challenge belongs, and whether all who must serve it do.
//
// Who asks for a certificate chooses a name, and may run the DNS servers of that name. So all that is read here is bounded:
// how many CNAMEs are followed, how many questions it takes to find a zone, how many servers and addresses are asked, and how
// long. Names that an answer brings are taken only if they are made of letters, digits, hyphens and underscores. Servers are
// asked at one port that only the administrator chooses.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

const (
	maxDelegations = 8  // CNAMEs that are followed
	maxZoneSteps   = 40 // questions to find a zone
	maxServers     = 32 // name servers of a zone
	maxAddresses   = 8  // addresses of a name server
	dnsPort        = 53
)

// resolvConf says which nameservers the pod has.
const resolvConf = "/etc/resolv.conf"

// Resolver asks nameservers that answer for the whole DNS, and the authoritative servers of zones. It is safe for concurrent
// use and keeps nothing between calls: caching is what nameservers do.
type Resolver struct {
	nameservers []string // as HOST:PORT; if empty, those of resolvConf
	port        string   // of authoritative servers
}

// New returns a resolver that asks these nameservers, each ADDRESS or ADDRESS:PORT; if there are none, those of
// /etc/resolv.conf. Authoritative servers are asked at the port; 0 means 53. It does no I/O; the error names an entry.
func New(nameservers []string, port uint16) (*Resolver, error) {
	if port == 0 {
		port = dnsPort
	}
	r := &Resolver{port: strconv.Itoa(int(port))}
	for i, n := range nameservers {
		address, err := parseNameserver(n)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		r.nameservers = append(r.nameservers, address)
	}
	return r, nil
}

// parseNameserver reads ADDRESS or ADDRESS:PORT and returns ADDRESS:PORT, with port 53 if there is none. An IPv6 address with
// a port is in brackets, and has no zone.
func parseNameserver(s string) (string, error) {
	if address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil && address.Zone() == "" {
		return netip.AddrPortFrom(address, dnsPort).String(), nil
	}
	address, err := netip.ParseAddrPort(s)
	if err != nil || address.Port() == 0 || address.Addr().Zone() != "" {
		return "", fmt.Errorf("%.80q is neither an IP address nor ADDRESS:PORT, such as 192.0.2.53 or [2001:db8::53]:53", s)
	}
	return address.String(), nil
}

// servers returns the nameservers to ask.
func (r *Resolver) servers() ([]string, error) {
	if len(r.nameservers) > 0 {
		return r.nameservers, nil
	}
	conf, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("reading the nameservers of this pod: %w", err)
	}
	if len(conf.Servers) == 0 {
		return nil, errors.New("this pod has no nameservers (" + resolvConf + "): name some in dns01.nameservers")
	}
	var servers []string
	for _, s := range conf.Servers {
		servers = append(servers, net.JoinHostPort(s, conf.Port))
	}
	return servers, nil
}

// Target follows the CNAMEs at a name (RFC 1034, section 3.6.2) and returns where they end, which is the name itself if there
// are none.
func (r *Resolver) Target(ctx context.Context, name string) (string, error) {
	name, err := txt.Name(name)
	if err != nil {
		return "", err
	}
	start, seen := name, map[string]bool{}
	for range maxDelegations + 1 {
		if seen[name] {
			return "", fmt.Errorf("the CNAMEs at %s lead in a circle, back to %s: correct them in the DNS", start, name)
		}
		seen[name] = true
		answer, err := r.lookup(ctx, name, dns.TypeCNAME)
		if err != nil {
			return "", err
		}
		next := cname(answer, name)
		if next == "" {
			return name, nil
		}
		if next, err = txt.Name(next); err != nil {
			return "", fmt.Errorf("the CNAME at %s leads to a name that is not followed: %w", name, err)
		}
		name = next
	}
	return "", fmt.Errorf("more than %d CNAMEs follow each other at %s: shorten the chain in the DNS", maxDelegations, start)
}

// cname returns what the CNAME of a name leads to, or "".
func cname(answer *dns.Msg, name string) string {
	for _, rr := range answer.Answer {
		if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == name {
			return c.Target
		}
	}
	return ""
}

// Zone returns the zone that a name is in. It asks for the SOA record at the name, and at each name above it until one is there
// (RFC 1034, section 4.2.1). An answer that the record is not there names the zone as well (RFC 2308, section 3).
func (r *Resolver) Zone(ctx context.Context, name string) (string, error) {
	name, err := txt.Name(name)
	if err != nil {
		return "", err
	}
	at := name
	for range maxZoneSteps {
		answer, err := r.lookup(ctx, at, dns.TypeSOA)
		if err != nil {
			return "", err
		}
		switch zone := zoneOf(answer, at); zone {
		case "":
		case ".":
			return "", fmt.Errorf("%s is in no zone but the DNS root: there is no such top-level domain for the nameservers that were asked", name)
		default:
			return txt.Name(zone)
		}
		_, above, _ := strings.Cut(at, ".")
		if above == "" {
			return "", fmt.Errorf("no zone found for %s: the nameservers that were asked know no SOA record at it or above it", name)
		}
		at = above
	}
	return "", fmt.Errorf("no zone found for %s among the %d names above it", name, maxZoneSteps)
}

// zoneOf returns the zone that an answer about the SOA record of a name puts the name into, or "" if it does not say.
func zoneOf(answer *dns.Msg, name string) string {
	if cname(answer, name) != "" {
		return "" // an alias is never the top of a zone, and what the answer says is about the name that it leads to
	}
	for _, rr := range answer.Answer {
		if soa, ok := rr.(*dns.SOA); ok && dns.CanonicalName(soa.Hdr.Name) == name {
			return name
		}
	}
	for _, rr := range answer.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return dns.CanonicalName(soa.Hdr.Name)
		}
	}
	return ""
}
