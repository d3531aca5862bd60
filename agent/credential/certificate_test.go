// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
)

func TestParseChain(t *testing.T) {
	a := agenttest.NewAuthority(t, "ca")
	leaf := issue(t, a, Names{DNS: []string{"a"}}, time.Hour).Leaf()
	chain := func(certs ...*x509.Certificate) []byte { return EncodeCertificates(certs) }
	withHeader := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: leaf.Raw})
	many := slices.Repeat([]*x509.Certificate{a.Intermediate}, maxChain+1)
	for name, test := range map[string]struct {
		data    []byte
		want    []*x509.Certificate
		problem string
	}{
		"leaf":                 {data: chain(leaf), want: []*x509.Certificate{leaf}},
		"root is dropped":      {data: chain(leaf, a.Intermediate, a.Root), want: []*x509.Certificate{leaf, a.Intermediate}},
		"self-signed leaf":     {data: chain(a.Root), want: []*x509.Certificate{a.Root}},
		"text around":          {data: slices.Concat([]byte("subject=\n"), chain(leaf), []byte("\nend\n")), want: []*x509.Certificate{leaf}},
		"empty":                {problem: "no certificate found"},
		"garbage":              {data: []byte("garbage"), problem: "no certificate found"},
		"garbage in PEM":       {data: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), problem: "certificate 1"},
		"another block":        {data: slices.Concat(chain(leaf), []byte("-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n")), problem: "RSA PRIVATE KEY"},
		"a header":             {data: withHeader, problem: "without headers"},
		"too many":             {data: chain(many...), problem: "at most 16"},
		"too long":             {data: make([]byte, maxChainBytes+1), problem: "more than"},
		"two in one PEM block": {data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: slices.Concat(leaf.Raw, leaf.Raw)}), problem: "certificate 1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseChain(test.data)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want %q", err, test.problem)
				}
				return
			}
			if err != nil || !slices.EqualFunc(got, test.want, (*x509.Certificate).Equal) {
				t.Errorf("got %d certificates, error %v, want %d", len(got), err, len(test.want))
			}
		})
	}
}

// FuzzParseChain: what is accepted can be written and read again without change,
// and nothing but certificates is ever written.
func FuzzParseChain(f *testing.F) {
	a := agenttest.NewAuthority(f, "ca")
	leaf := issue(f, a, Names{DNS: []string{"a"}, URIs: []string{"spiffe://example.org/x"}}, time.Hour)
	f.Add(EncodeCertificates(leaf.Chain))
	f.Add(a.Bundle())
	f.Add([]byte("text\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		chain, err := ParseChain(data)
		if err != nil {
			return
		}
		if len(chain) == 0 || len(chain) > maxChain {
			t.Fatalf("a chain of %d", len(chain))
		}
		written := EncodeCertificates(chain)
		again, err := ParseChain(written)
		if err != nil || !slices.EqualFunc(chain, again, (*x509.Certificate).Equal) {
			t.Errorf("wrote %d certificates, read %d, error %v", len(chain), len(again), err)
		}
		if n := bytes.Count(written, []byte("-----BEGIN ")); n != len(chain) {
			t.Errorf("wrote %d PEM blocks for %d certificates", n, len(chain))
		}
	})
}

func TestLeadsTo(t *testing.T) {
	a, other := agenttest.NewAuthority(t, "ca"), agenttest.NewAuthority(t, "other")
	pair := issue(t, a, Names{URIs: []string{"spiffe://example.org/ns/shop/sa/cart"}}, time.Hour)
	short := &Pair{Chain: pair.Chain[:1], Key: pair.Key}
	now := time.Now()
	for name, test := range map[string]struct {
		pair   *Pair
		anchor *x509.Certificate
		at     time.Time
		ok     bool
	}{
		"its root":         {pair, a.Root, now, true},
		"its intermediate": {short, a.Intermediate, now, true},
		"another root":     {pair, other.Root, now, false},
		"no intermediate":  {short, a.Root, now, false},
		"within the skew":  {pair, a.Root, pair.Leaf().NotBefore.Add(-clockSkew), true},
		"before the skew":  {pair, a.Root, pair.Leaf().NotBefore.Add(-clockSkew - time.Second), false},
		"after its end":    {pair, a.Root, pair.Leaf().NotAfter.Add(time.Second), false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.pair.LeadsTo(&Bundle{Certs: []*x509.Certificate{test.anchor}}, test.at); (err == nil) != test.ok {
				t.Errorf("error %v, want success: %t", err, test.ok)
			}
		})
	}
}

// issue makes a key and a certificate for the names, valid from now on.
func issue(t testing.TB, a *agenttest.Authority, n Names, lifetime time.Duration) *Pair {
	t.Helper()
	key := agenttest.Must(GenerateKey("ECDSA-P256"))(t)
	issued := agenttest.Must(a.Sign(agenttest.Must(RequestPEM(key, n))(t), lifetime, nil))(t)
	return &Pair{Chain: agenttest.Must(ParseChain(issued))(t), Key: key}
}
