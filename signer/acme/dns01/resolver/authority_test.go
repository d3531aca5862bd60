// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package resolver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certwright/certwright/signer/acme/dns01/bind9"
)

const (
	zone  = "example.test."
	name  = "_acme-challenge.www.example.test."
	value = "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"
)

// update adds TXT records to a zone that 127.0.0.1 may update.
func update(t *testing.T, s *bind9.Server, values ...string) {
	t.Helper()
	m := new(dns.Msg).SetUpdate(zone)
	for _, v := range values {
		m.Insert([]dns.RR{record(t, fmt.Sprintf("%s 60 TXT %q", name, v))})
	}
	answer, _, err := (&dns.Client{Net: "tcp"}).ExchangeContext(t.Context(), m, s.Address())
	if err != nil || answer.Rcode != dns.RcodeSuccess {
		t.Fatalf("updating: %v, %v", answer, err)
	}
}

const twoServers = "@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2"

func primary(t *testing.T, records string) *bind9.Server {
	t.Helper()
	return bind9.Start(t, bind9.Config{Zones: []bind9.Zone{{Name: zone, Records: records, Options: "allow-update { 127.0.0.1; };"}, {Name: "other.test."}}})
}

// A secondary that is not told of changes lags behind; the record is served when it has caught up.
func TestWaitsForALaggingSecondary(t *testing.T) {
	first := primary(t, twoServers)
	second := bind9.Start(t, bind9.Config{IP: "127.0.0.2", Port: first.Port, Zones: []bind9.Zone{{Name: zone, Primary: "127.0.0.1"}}})
	r := newResolver(t, first.Port, first.Address())
	eventually(t, func() error { return transferred(t, second) })
	update(t, first, value)
	err := r.Served(t.Context(), zone, name, value)
	if err == nil || !strings.Contains(err.Error(), "1 of the 2 name servers") || !strings.Contains(err.Error(), "ns2.example.test (127.0.0.2) does not serve the value yet") {
		t.Fatalf("before the secondary knows: %v", err)
	}
	notify(t, second)
	eventually(t, func() error { return r.Served(t.Context(), zone, name, value) })
	second.Stop()
	if err := r.Served(t.Context(), zone, name, value); err == nil || !strings.Contains(err.Error(), "127.0.0.2) does not answer") {
		t.Errorf("with the secondary down: %v", err)
	}
}

// transferred returns nil when a secondary has got its zone.
func transferred(t *testing.T, s *bind9.Server) error {
	t.Helper()
	answer, _, err := new(dns.Client).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(zone, dns.TypeSOA), s.Address())
	if err == nil && len(answer.Answer) == 0 {
		err = fmt.Errorf("no SOA record: %s", dns.RcodeToString[answer.Rcode])
	}
	return err
}

// notify tells a secondary that its zone changed (RFC 1996).
func notify(t *testing.T, s *bind9.Server) {
	t.Helper()
	if _, _, err := new(dns.Client).ExchangeContext(t.Context(), new(dns.Msg).SetNotify(zone), s.Address()); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until check returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(err)
		}
	}
}

// Many values do not fit into a UDP answer, and are read over TCP.
func TestManyValues(t *testing.T) {
	s := primary(t, "")
	var values []string
	for i := range 20 {
		values = append(values, fmt.Sprintf("%s%03d", value[3:], i))
	}
	update(t, s, values...)
	r := newResolver(t, s.Port, s.Address())
	for _, v := range values {
		if err := r.Served(t.Context(), zone, name, v); err != nil {
			t.Error(err)
		}
	}
	if err := r.Served(t.Context(), zone, name, value); err == nil {
		t.Error("a value that is not there is served")
	}
}

func TestNotServed(t *testing.T) {
	tooMany := ""
	for i := range maxServers + 1 {
		tooMany += fmt.Sprintf("\n@ NS ns%d\nns%d A 127.0.0.1", i+1, i+1)
	}
	addresses := "@ NS ns1"
	for i := range maxAddresses + 1 {
		addresses += fmt.Sprintf("\nns1 A 127.0.1.%d", i+1)
	}
	for title, c := range map[string]struct{ records, want string }{
		"not there":          {"", "ns1.example.test (127.0.0.1) does not serve the value yet"},
		"no address":         {"@ NS ns1\n@ NS gone.other.test.\nns1 A 127.0.0.1", "gone.other.test has no address"},
		"too many servers":   {tooMany, "at most 32 are asked"},
		"too many addresses": {addresses, "at most 8 are asked"},
		"no answer":          {"@ NS ns1\nns1 AAAA ::1\nns1 A 127.0.0.4", "ns1.example.test (127.0.0.4, ::1) does not answer"},
	} {
		t.Run(title, func(t *testing.T) {
			s := primary(t, c.records)
			err := newResolver(t, s.Port, s.Address()).Served(t.Context(), zone, name, value)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// Each address of a name server counts, but for one that does not answer, if there is another that does.
func TestAddressesOfAServer(t *testing.T) {
	s := primary(t, "@ NS ns1\nns1 A 127.0.0.1\nns1 A 127.0.0.3\nns1 AAAA ::1")
	update(t, s, value)
	r := newResolver(t, s.Port, s.Address())
	if err := r.Served(t.Context(), zone, name, value); err != nil {
		t.Errorf("with nothing at the second and third address: %v", err)
	}
	bind9.Start(t, bind9.Config{IP: "127.0.0.3", Port: s.Port, Zones: []bind9.Zone{{Name: zone}}})
	if err := r.Served(t.Context(), zone, name, value); err == nil || !strings.Contains(err.Error(), "(127.0.0.3) does not serve the value yet") {
		t.Errorf("with an old zone at the second address: %v", err)
	}
}

// A server that asks one which has the zone is not authoritative, even if it knows the value.
func TestLameDelegation(t *testing.T) {
	first := primary(t, twoServers)
	update(t, first, value)
	bind9.Start(t, bind9.Config{
		IP: "127.0.0.2", Port: first.Port, Options: fmt.Sprintf("forward only; forwarders port %d { 127.0.0.1; };", first.Port),
	})
	r := newResolver(t, first.Port, first.Address())
	if err := r.Served(t.Context(), zone, name, value); err == nil || !strings.Contains(err.Error(), "(127.0.0.2) ") || strings.Contains(err.Error(), "does not answer:") {
		t.Errorf("error %v, want one about what 127.0.0.2 answers", err)
	}
}
