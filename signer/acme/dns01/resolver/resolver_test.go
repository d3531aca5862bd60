// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/acme/dns01/bind9"
)

func newResolver(t *testing.T, port int, nameservers ...string) *Resolver {
	t.Helper()
	r, err := New(nameservers, uint16(port))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// world is a server with zones in which names are delegated in all ways.
func world(t *testing.T) *bind9.Server {
	t.Helper()
	var chain strings.Builder
	for i := range maxDelegations + 2 {
		fmt.Fprintf(&chain, "\nlong%d CNAME long%d", i, i+1)
	}
	base := "@ NS ns1\nns1 A 127.0.0.1\n"
	return bind9.Start(t, bind9.Config{Zones: []bind9.Zone{
		{Name: "example.test.", Records: base + `
_acme-challenge.one CNAME one.auth.test.
_acme-challenge.two CNAME step
step CNAME TWO.Auth.test.
_acme-challenge.circle CNAME back
back CNAME _acme-challenge.circle
_acme-challenge.self CNAME _acme-challenge.self
_acme-challenge.odd CNAME a\.b.auth.test.
_acme-challenge.space CNAME a\032b.auth.test.
alias CNAME www.other.test.
inner.sub CNAME www
www A 192.0.2.1
empty.deep.below A 192.0.2.1` + chain.String()},
		{Name: "sub.example.test.", Records: base + "inside CNAME www.example.test."},
		{Name: "auth.test."},
		{Name: "other.test.", Records: base + "www A 192.0.2.1"},
		{Name: "test."},
	}})
}

func TestTarget(t *testing.T) {
	s := world(t)
	r := newResolver(t, s.Port, s.Address())
	for name, c := range map[string]struct{ name, want, err string }{
		"no alias":        {"_acme-challenge.www.example.test", "_acme-challenge.www.example.test.", ""},
		"upper case":      {"_ACME-challenge.WWW.example.test.", "_acme-challenge.www.example.test.", ""},
		"one":             {"_acme-challenge.one.example.test.", "one.auth.test.", ""},
		"two":             {"_acme-challenge.two.example.test.", "two.auth.test.", ""},
		"circle":          {"_acme-challenge.circle.example.test.", "", "lead in a circle"},
		"itself":          {"_acme-challenge.self.example.test.", "", "lead in a circle"},
		"longest chain":   {"long2.example.test.", fmt.Sprintf("long%d.example.test.", maxDelegations+2), ""},
		"too long":        {"long0.example.test.", "", "more than 8 CNAMEs"},
		"target escaped":  {"_acme-challenge.odd.example.test.", "", "leads to a name that is not followed"},
		"target of space": {"_acme-challenge.space.example.test.", "", "leads to a name that is not followed"},
		"escaped":         {`_acme-challenge.evil\.example.test.`, "", "is no DNS name"},
		"escaped by code": {`_acme-challenge.evil\046example.test.`, "", "is no DNS name"},
		"too many bytes":  {strings.Repeat("a.", 127) + "test", "", "is no DNS name"},
		"empty":           {"", "", "is no DNS name"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Target(t.Context(), c.name)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %q and error %v; want %q and an error with %q", got, err, c.want, c.err)
			}
		})
	}
}

func TestZone(t *testing.T) {
	s := world(t)
	r := newResolver(t, s.Port, s.Address())
	for name, want := range map[string]string{
		"_acme-challenge.www.example.test.":        "example.test.",
		"_acme-challenge.EXAMPLE.test":             "example.test.",
		"example.test.":                            "example.test.",
		"_acme-challenge.a.b.c.sub.example.test.":  "sub.example.test.",
		"_acme-challenge.deep.below.example.test.": "example.test.", // an empty non-terminal is above it
		"_acme-challenge.alias.example.test.":      "example.test.", // the name above is an alias into another zone
		"_acme-challenge.inside.sub.example.test.": "sub.example.test.",
		"inside.sub.example.test.":                 "sub.example.test.", // and this one is an alias into the zone above
		"_acme-challenge.unknown.test.":            "test.",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Zone(t.Context(), name)
			if err != nil || got != want {
				t.Errorf("got %q and error %v, want %q", got, err, want)
			}
		})
	}
}

// answers is a nameserver that answers as the test says. It plays what BIND cannot be made to do.
func answers(t *testing.T, reply func(q *dns.Msg) *dns.Msg) (address string, questions *atomic.Int64) {
	t.Helper()
	var err error
	address, questions = servers.Address(t), new(atomic.Int64)
	udp, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		questions.Add(1)
		_ = w.WriteMsg(reply(q))
	})}
	var running sync.WaitGroup
	running.Go(func() { _ = server.ActivateAndServe() }) // it ends with an error when its socket is closed
	t.Cleanup(func() {
		_ = udp.Close()
		running.Wait()
	})
	return address, questions
}

func record(t *testing.T, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func TestZoneOfOddAnswers(t *testing.T) {
	const name = "_acme-challenge.www.example.test."
	for title, c := range map[string]struct {
		reply func(q *dns.Msg) *dns.Msg
		err   string
	}{
		"nothing is known":   {func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) }, "no zone found"},
		"no such top level":  {func(q *dns.Msg) *dns.Msg { return withNs(q, record(t, ". SOA a. b. 1 1 1 1 1")) }, "no zone but the DNS root"},
		"zone not above":     {func(q *dns.Msg) *dns.Msg { return withNs(q, record(t, "victim.test. SOA a. b. 1 1 1 1 1")) }, "no zone found"},
		"refused":            {func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) }, "answers REFUSED"},
		"another question":   {func(q *dns.Msg) *dns.Msg { return otherQuestion(q, "victim.test.", dns.TypeSOA) }, "does not answer what was asked"},
		"another type":       {func(q *dns.Msg) *dns.Msg { return otherQuestion(q, name, dns.TypeA) }, "does not answer what was asked"},
		"the question again": {func(q *dns.Msg) *dns.Msg { return q }, "does not answer what was asked"},
	} {
		t.Run(title, func(t *testing.T) {
			address, questions := answers(t, c.reply)
			zone, err := newResolver(t, 0, address).Zone(t.Context(), name)
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("zone %q, error %v; want one with %q", zone, err, c.err)
			}
			if n := questions.Load(); n > 8 {
				t.Errorf("%d questions for a name of 4 labels", n)
			}
		})
	}
}

func withNs(q *dns.Msg, ns dns.RR) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	m.Ns = []dns.RR{ns}
	return m
}

func otherQuestion(q *dns.Msg, name string, kind uint16) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Question = []dns.Question{{Name: name, Qtype: kind, Qclass: dns.ClassINET}}
	m.Answer = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "a.", Mbox: "b."}}
	return m
}

// A requester who asks for a name of very many labels, with servers that never say which zone it is in, gets a bounded number
// of questions asked.
func TestManyLabelsAreBounded(t *testing.T) {
	address, questions := answers(t, func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) })
	_, err := newResolver(t, 0, address).Zone(t.Context(), strings.Repeat("a.", 120)+"test.")
	if err == nil || questions.Load() != maxZoneSteps {
		t.Errorf("%d questions, error %v; want %d and an error", questions.Load(), err, maxZoneSteps)
	}
}

// A nameserver that is down or broken is passed over.
func TestNextNameserver(t *testing.T) {
	s := world(t)
	broken, _ := answers(t, func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) })
	down := servers.Address(t)
	zone, err := newResolver(t, s.Port, down, broken, s.Address()).Zone(t.Context(), "www.example.test.")
	if err != nil || zone != "example.test." {
		t.Errorf("zone %q, error %v", zone, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newResolver(t, s.Port, s.Address()).Zone(ctx, "www.example.test."); err == nil {
		t.Error("no error with a cancelled context")
	}
}

func TestParseNameserver(t *testing.T) {
	for s, want := range map[string]string{
		"192.0.2.53":          "192.0.2.53:53",
		"192.0.2.53:5353":     "192.0.2.53:5353",
		"2001:db8::53":        "[2001:db8::53]:53",
		"[2001:db8::53]":      "[2001:db8::53]:53",
		"[2001:db8::53]:5353": "[2001:db8::53]:5353",
		"192.0.2.53:0":        "",
		"192.0.2.53:65536":    "",
		"ns1.example.com":     "",
		"192.0.2.53:dns":      "",
		"":                    "",
		":53":                 "",
	} {
		if got, err := parseNameserver(s); got != want || (err == nil) != (want != "") {
			t.Errorf("parseNameserver(%q) is %q, error %v; want %q", s, got, err, want)
		}
	}
	if _, err := New([]string{"192.0.2.53", "nobody"}, 0); err == nil || !strings.HasPrefix(err.Error(), "[1]: ") {
		t.Errorf("error %v does not say which entry is wrong", err)
	}
}

// What is taken is an address with a port, and means the same when it is read again.
func FuzzParseNameserver(f *testing.F) {
	for _, s := range []string{"192.0.2.53", "192.0.2.53:53", "[2001:db8::1]:53", "fe80::1%eth0", "[", "]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		address, err := parseNameserver(s)
		if err != nil {
			return
		}
		parsed, err := netip.ParseAddrPort(address)
		if err != nil || parsed.Port() == 0 {
			t.Fatalf("parseNameserver(%q) is %q: %v", s, address, err)
		}
		if again, err := parseNameserver(address); err != nil || again != address {
			t.Errorf("parseNameserver(%q) is %q, and of that %q, %v", s, address, again, err)
		}
	})
}
