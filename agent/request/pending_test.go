// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
)

// Whoever could write to the directory must not have the agent take a certificate
// for a key that he knows, for other names or of another request.
func TestTamperedPendingRequestIsNotTaken(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, r *Requester, pending *Ticket)
		want   string
	}{
		"name":          {func(_ *testing.T, _ *Requester, p *Ticket) { p.Name = "../../../api/v1/secrets" }, "no name of ours"},
		"name of other": {func(_ *testing.T, _ *Requester, p *Ticket) { p.Name = "csr-abc" }, "no name of ours"},
		"long UID":      {func(_ *testing.T, _ *Requester, p *Ticket) { p.UID = strings.Repeat("x", 200) }, "a UID that no API server makes"},
		"words for the log": {func(_ *testing.T, _ *Requester, p *Ticket) {
			p.Name, p.Fingerprint = "certwright-a\nlevel=INFO msg=forged", "other"
		}, "no name of ours"},
		"no key":      {func(_ *testing.T, _ *Requester, p *Ticket) { p.Key = nil }, "no private key"},
		"garbage key": {func(_ *testing.T, _ *Requester, p *Ticket) { p.Key = []byte("garbage") }, "no private key"},
		"another key": {func(t *testing.T, r *Requester, p *Ticket) {
			p.Key = agenttest.Must(r.newTicket(time.Time{}))(t).Key
		}, "for another key"},
		"no request": {func(_ *testing.T, _ *Requester, p *Ticket) { p.Request = nil }, "no PKCS#10 request"},
		"garbage": {func(_ *testing.T, _ *Requester, p *Ticket) {
			p.Request = []byte("-----BEGIN X-----\n-----END X-----\n")
		}, "the pending request on disk"},
		"more behind":  {func(_ *testing.T, _ *Requester, p *Ticket) { p.Request = append(p.Request, "more"...) }, "no PKCS#10 request"},
		"other names":  {withNames(credential.Names{DNS: []string{"evil.shop.svc"}}), "other names"},
		"more names":   {withNames(credential.Names{DNS: []string{"cart.shop.svc", "evil.shop.svc"}, URIs: []string{"spiffe://example.org/ns/shop/sa/cart"}}), "other names"},
		"fewer names":  {withNames(credential.Names{DNS: []string{"cart.shop.svc"}}), "other names"},
		"other config": {func(_ *testing.T, _ *Requester, p *Ticket) { p.Fingerprint = "other" }, "another configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRequester(t)
			pending := agenttest.Must(r.newTicket(time.Time{}))(t)
			if err := r.keep(pending); err != nil {
				t.Fatal(err)
			}
			if got, err := r.Restore(); err != nil || !credential.SameKey(got.key, pending.key) {
				t.Fatalf("untouched: %v", err)
			}
			test.change(t, r, pending)
			if err := r.keep(pending); err != nil {
				t.Fatal(err)
			}
			got, err := r.Restore()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("took up %+v, error %v, want %q", got, err, test.want)
			}
			if len(pending.Key) > 20 && err != nil && strings.Contains(err.Error(), string(pending.Key[:20])) {
				t.Error("the error holds a key")
			}
		})
	}
}

// newRequester asks for one name and keeps its tickets in memory.
func newRequester(t testing.TB) (*Requester, *memory) {
	t.Helper()
	journal := new(memory)
	return New(Options{
		Journal: journal, SignerName: "example.com/x", KeyAlgorithm: "ECDSA-P256", Fingerprint: "fingerprint",
		Names: credential.NewNames([]string{"cart.shop.svc"}, []string{"spiffe://example.org/ns/shop/sa/cart"}, nil),
	}), journal
}

// memory is a Journal.
type memory struct{ data []byte }

func (m *memory) SetPending(data []byte) error { m.data = data; return nil }
func (m *memory) Pending() ([]byte, error)     { return m.data, nil }

func withNames(n credential.Names) func(*testing.T, *Requester, *Ticket) {
	return func(t *testing.T, r *Requester, p *Ticket) {
		changed := New(r.Options)
		changed.Names = n
		other := agenttest.Must(changed.newTicket(time.Time{}))(t)
		p.Request, p.Key, p.key = other.Request, other.Key, other.key
	}
}

// FuzzRestore: whatever lies in the journal, nothing but a request that this agent could have made is taken up.
func FuzzRestore(f *testing.F) {
	r, journal := newRequester(f)
	f.Add(agenttest.Must(json.Marshal(agenttest.Must(r.newTicket(time.Time{}))(f)))(f))
	f.Add([]byte(`{"name":"certwright-abcdefghijklmnopqrstuvwxyz"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		journal.data = data
		got, err := r.Restore()
		if err == nil && got != nil && (!requestNamePattern.MatchString(got.Name) || got.key == nil || got.Fingerprint != r.Fingerprint) {
			t.Errorf("took up %+v", got)
		}
	})
}

func TestRandomName(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		name := randomName()
		if !requestNamePattern.MatchString(name) || seen[name] {
			t.Fatalf("name %q is not valid or came twice", name)
		}
		seen[name] = true
	}
}
