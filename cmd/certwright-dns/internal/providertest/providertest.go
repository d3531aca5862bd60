// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package providertest is what the tests of all providers have in common: the zone that a stub of a provider's API keeps in
// memory, and the tests that each provider's writer passes against its stub. The stubs follow the documentation of the APIs;
// the real services were never asked.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certwright/certwright/cmd/certwright-dns/internal/provider"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/conformance"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/contract"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

const (
	// ZoneName is the zone that a stub has. There is a private one of the same name, which must not be written to, where the
	// provider has such zones.
	ZoneName = "example.test."
	// Gone is a zone that a stub does not have.
	Gone = "gone.test."
	// Secret is the credential that a stub wants to see. It must never be in an error.
	Secret = "s3same-open"

	name = "_acme-challenge.www." + ZoneName
)

// Zone is what a stub keeps.
type Zone struct {
	mu     sync.Mutex
	values map[string][]string // by name
	status int
	rival  func()
}

// Values returns the values at a name.
func (z *Zone) Values(name string) []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.values[name])
}

// Set replaces the values at a name, if they are still the old ones.
func (z *Zone) Set(name string, old, values []string) bool {
	z.mu.Lock()
	rival := z.rival
	z.rival = nil
	z.mu.Unlock()
	if rival != nil {
		rival()
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if !slices.Equal(slices.Sorted(slices.Values(old)), slices.Sorted(slices.Values(z.values[name]))) {
		return false
	}
	if z.values == nil {
		z.values = map[string][]string{}
	}
	z.values[name] = slices.Clone(values)
	return true
}

// Status is that of an error which the stub is to answer with, or 0.
func (z *Zone) Status() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.status
}

// fail lets the stub answer with an error from now on; 0 ends that.
func (z *Zone) fail(status int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.status = status
}

// before has somebody else act once, right before the next change.
func (z *Zone) before(rival func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rival = rival
}

// Run runs the tests against a writer whose stub keeps the zone. Open makes another writer for the same stub; stop ends the
// stub.
func Run(t *testing.T, zone *Zone, open func(t *testing.T) txt.Writer, stop func()) {
	t.Helper()
	guard := func(t *testing.T) *provider.Guard {
		names, err := provider.ParseNames([]string{ZoneName, Gone}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return provider.NewGuard(open(t), names)
	}
	t.Run("conformance", func(t *testing.T) { testConformance(t, zone, guard(t)) })
	t.Run("values of others stay", func(t *testing.T) { testOthers(t, zone, guard(t)) })
	t.Run("two processes", func(t *testing.T) { testTwoProcesses(t, zone, guard(t), guard(t)) })
	t.Run("bound", func(t *testing.T) { testBound(t, zone, guard(t)) })
	t.Run("statuses", func(t *testing.T) { testStatuses(t, zone, guard(t)) })
	t.Run("no zone", func(t *testing.T) {
		r := record(1)
		r.Zone, r.Name = Gone, "_acme-challenge."+Gone
		wantMisconfigured(t, guard(t).Present(t.Context(), r))
	})
	t.Run("server down", func(t *testing.T) {
		g := guard(t)
		stop()
		wantTrouble(t, g.Present(t.Context(), record(1)))
		wantTrouble(t, g.Check(t.Context()))
	})
}

// record returns a record whose value is a number in 43 characters.
func record(n int) txt.Record {
	return txt.Record{Zone: ZoneName, Name: name, Value: fmt.Sprintf("%043d", n)}
}

func testConformance(t *testing.T, zone *Zone, writer txt.Writer) {
	server := httptest.NewServer(contract.Handler(func(map[string]string) (txt.Writer, error) { return writer, nil }, "token", nil))
	defer server.Close()
	target := conformance.Target{
		URL: server.URL, Client: server.Client(), Token: "token", Zone: ZoneName, Patience: 5 * time.Second,
		Serves: func(_ context.Context, r txt.Record) bool { return slices.Contains(zone.Values(r.Name), r.Value) },
	}
	for _, c := range conformance.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Run(t.Context(), target); err != nil {
				t.Error(err)
			}
		})
	}
}

func testOthers(t *testing.T, zone *Zone, writer txt.Writer) {
	zone.Set(name, nil, []string{"of somebody else"})
	must(t, writer.Present(t.Context(), record(1)))
	if got := zone.Values(name); len(got) != 2 {
		t.Errorf("values %q", got)
	}
	must(t, writer.CleanUp(t.Context(), record(1)))
	if got := zone.Values(name); !slices.Equal(got, []string{"of somebody else"}) {
		t.Errorf("values %q", got)
	}
	zone.Set(name, zone.Values(name), nil)
}

// Two processes, such as the old and the new leader of the signers, write at one name at the same time.
func testTwoProcesses(t *testing.T, zone *Zone, one, other txt.Writer) {
	zone.before(func() { must(t, other.Present(t.Context(), record(2))) })
	must(t, one.Present(t.Context(), record(1)))
	if got := zone.Values(name); len(got) != 2 || !slices.Contains(got, record(1).Value) || !slices.Contains(got, record(2).Value) {
		t.Errorf("after two values were written: %q", got)
	}
	zone.before(func() { must(t, other.CleanUp(t.Context(), record(2))) })
	must(t, one.CleanUp(t.Context(), record(1)))
	if got := zone.Values(name); len(got) > 0 {
		t.Errorf("after both were removed: %q", got)
	}
}

func testBound(t *testing.T, zone *Zone, writer txt.Writer) {
	for i := range txt.MaxValues {
		must(t, writer.Present(t.Context(), record(i)))
	}
	if err := writer.Present(t.Context(), record(txt.MaxValues)); !errors.Is(err, txt.ErrFull) {
		t.Errorf("one value too many: %v", err)
	}
	must(t, writer.Present(t.Context(), record(0))) // is there
	for i := range txt.MaxValues {
		must(t, writer.CleanUp(t.Context(), record(i)))
	}
	if got := zone.Values(name); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

func testStatuses(t *testing.T, zone *Zone, writer *provider.Guard) {
	defer zone.fail(0)
	for status, check := range map[int]func(*testing.T, error){
		http.StatusUnauthorized: wantMisconfigured, http.StatusForbidden: wantMisconfigured,
		http.StatusTooManyRequests: wantTrouble, http.StatusInternalServerError: wantTrouble, http.StatusServiceUnavailable: wantTrouble,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			zone.fail(status)
			check(t, writer.Present(t.Context(), record(1)))
			check(t, writer.CleanUp(t.Context(), record(1)))
			check(t, writer.Check(t.Context()))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func wantMisconfigured(t *testing.T, err error) {
	t.Helper()
	var misconfigured *txt.ConfigError
	if !errors.As(err, &misconfigured) || strings.Contains(err.Error(), Secret) {
		t.Errorf("error %v, want a ConfigError without the secret", err)
	}
}

func wantTrouble(t *testing.T, err error) {
	t.Helper()
	var misconfigured *txt.ConfigError
	if err == nil || errors.As(err, &misconfigured) || strings.Contains(err.Error(), Secret) {
		t.Errorf("error %v, want trouble without the secret", err)
	}
}
