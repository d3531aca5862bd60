// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/contract"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// memory is a webhook's DNS.
type memory struct {
	mu     sync.Mutex
	values map[string][]string
	shown  map[string][]string // what somebody looked at last
}

func (m *memory) Present(_ context.Context, r txt.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Zone != "example.test." {
		return txt.Misconfigured("no such zone")
	}
	if !slices.Contains(m.values[r.Name], r.Value) {
		m.values[r.Name] = append(m.values[r.Name], r.Value)
	}
	return nil
}

func (m *memory) CleanUp(_ context.Context, r txt.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[r.Name] = slices.DeleteFunc(m.values[r.Name], func(v string) bool { return v == r.Value })
	return nil
}

func (m *memory) serves(_ context.Context, r txt.Record) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown[r.Name] = slices.Clone(m.values[r.Name])
	return slices.Contains(m.values[r.Name], r.Value)
}

// broken does one thing wrong.
type broken struct {
	*memory
	present, cleanUp func(ctx context.Context, m *memory, r txt.Record) error
}

func (b broken) Present(ctx context.Context, r txt.Record) error {
	if b.present != nil {
		return b.present(ctx, b.memory, r)
	}
	return b.memory.Present(ctx, r)
}

func (b broken) CleanUp(ctx context.Context, r txt.Record) error {
	if b.cleanUp != nil {
		return b.cleanUp(ctx, b.memory, r)
	}
	return b.memory.CleanUp(ctx, r)
}

// failures runs the cases against a webhook and returns the names of those that failed.
func failures(t *testing.T, m *memory, handler http.Handler) []string {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	target := Target{URL: server.URL + "/", Client: server.Client(), Token: "sesame", Zone: "example.test.", Serves: m.serves, Patience: 150 * time.Millisecond}
	var failed []string
	for _, c := range Cases() {
		if c.Run(t.Context(), target) != nil {
			failed = append(failed, c.Name)
		}
	}
	return failed
}

// fault is one thing that a webhook does wrong.
type fault struct {
	writer func(*memory) txt.Writer
	wrap   func(http.Handler) http.Handler
	fails  string // the name of one case; empty if none fails
}

// overwrite is a Present that does not know of other values.
func overwrite(_ context.Context, m *memory, r txt.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[r.Name] = []string{r.Value}
	return nil
}

var faults = map[string]fault{
	"right": {},
	"overwrites": {
		writer: func(m *memory) txt.Writer { return broken{memory: m, present: overwrite} },
		fails:  "two values at one name leave each other alone",
	},
	"removes all": {writer: func(m *memory) txt.Writer {
		return broken{memory: m, cleanUp: func(_ context.Context, m *memory, r txt.Record) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.values, r.Name)
			return nil
		}}
	}, fails: "two values at one name leave each other alone"},
	"says done and does nothing": {writer: func(m *memory) txt.Writer {
		return broken{memory: m, present: func(context.Context, *memory, txt.Record) error { return nil }}
	}, fails: "a value is written and removed"},
	"removes nothing": {writer: func(m *memory) txt.Writer {
		return broken{memory: m, cleanUp: func(context.Context, *memory, txt.Record) error { return nil }}
	}, fails: "a value is written and removed"},
	"an error the second time": {writer: func(m *memory) txt.Writer {
		return broken{memory: m, present: func(ctx context.Context, m *memory, r txt.Record) error {
			if m.serves(ctx, r) {
				return errors.New("it is there already")
			}
			return m.Present(ctx, r)
		}}
	}, fails: "writing twice and removing twice is no error"},
	"an error where nothing is": {writer: func(m *memory) txt.Writer {
		return broken{memory: m, cleanUp: func(ctx context.Context, m *memory, r txt.Record) error {
			if !m.serves(ctx, r) {
				return errors.New("it is not there")
			}
			return m.CleanUp(ctx, r)
		}}
	}, fails: "removing what was never written is no error"},
	"writes what it read before others wrote": {writer: func(m *memory) txt.Writer {
		return broken{memory: m, present: func(_ context.Context, m *memory, r txt.Record) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.values[r.Name] = append(slices.Clone(m.shown[r.Name]), r.Value)
			return nil
		}}
	}, fails: "values written at the same time are all there"},
	"any zone is trouble": {writer: func(m *memory) txt.Writer {
		return broken{memory: m, present: func(ctx context.Context, m *memory, r txt.Record) error {
			if err := m.Present(ctx, r); err != nil {
				return errors.New("no")
			}
			return nil
		}}
	}, fails: "a zone that is not there is a misconfiguration"},
	"takes any token": {wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Authorization", "Bearer sesame")
			next.ServeHTTP(w, r)
		})
	}, fails: "without the token nothing is done"},
	"takes any request": {wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"version":"v1"}`)) })
	}, fails: "a request that breaks the contract is refused"},
	"speaks no JSON": {wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	}, fails: "check says that the configuration works"},
}

// Each thing that a webhook can do wrong makes a case fail, and doing it right makes none fail.
func TestCasesFailWhereTheyMust(t *testing.T) {
	for title, c := range faults {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m := &memory{values: map[string][]string{}, shown: map[string][]string{}}
			var writer txt.Writer = m
			if c.writer != nil {
				writer = c.writer(m)
			}
			handler := contract.Handler(func(map[string]string) (txt.Writer, error) { return writer, nil }, "sesame", nil)
			if c.wrap != nil {
				handler = c.wrap(handler)
			}
			failed := failures(t, m, handler)
			if c.fails == "" && len(failed) > 0 || c.fails != "" && !slices.Contains(failed, c.fails) {
				t.Errorf("these cases failed: %s; want %q", strings.Join(failed, ", "), c.fails)
			}
		})
	}
}
