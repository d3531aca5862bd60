// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package resolver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	queryTimeout = 1500 * time.Millisecond // of one question to one server
	tries        = 2                       // of each server, as UDP loses packets
)

// lookup asks the nameservers, one after the other, until one says what is at a name or that nothing is.
func (r *Resolver) lookup(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, err
	}
	var last error
	for range tries {
		for _, server := range servers {
			if last != nil && ctx.Err() != nil {
				break
			}
			answer, err := ask(ctx, server, name, kind, true)
			switch {
			case err != nil:
				last = err
			case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
				last = fmt.Errorf("nameserver %s answers %s", server, dns.RcodeToString[answer.Rcode])
			default:
				return answer, nil
			}
		}
	}
	return nil, fmt.Errorf("looking up %s of %s: %w", dns.TypeToString[kind], name, last)
}

// ask puts one question to one server, over UDP, and over TCP if the answer does not fit there. It does not use EDNS: most
// answers fit without, and old servers know no better.
func ask(ctx context.Context, server, name string, kind uint16, recurse bool) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(name, kind)
	question.RecursionDesired = recurse
	answer, err := exchange(ctx, "udp", server, question)
	if err == nil && answer.Truncated {
		answer, err = exchange(ctx, "tcp", server, question)
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", server, err)
	}
	return answer, nil
}

// exchange sends a message and returns the answer to it: the library sees to it that it has the message's ID, and the socket
// that it comes from the server.
func exchange(ctx context.Context, network, server string, question *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	answer, _, err := (&dns.Client{Net: network, Timeout: queryTimeout}).ExchangeContext(ctx, question, server)
	switch {
	case err != nil:
		return nil, err
	case !answer.Response || answer.Opcode != question.Opcode || !slices.EqualFunc(answer.Question, question.Question, sameQuestion):
		return nil, errors.New("what came back does not answer what was asked")
	}
	return answer, nil
}

func sameQuestion(a, b dns.Question) bool {
	return dns.CanonicalName(a.Name) == dns.CanonicalName(b.Name) && a.Qtype == b.Qtype && a.Qclass == b.Qclass
}
