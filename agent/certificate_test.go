// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseIssued(t *testing.T) {
	a := newAuthority(t, "ca")
	leaf := a.pair(t, names{dns: []string{"a"}}, time.Hour).Leaf()
	chain := func(certs ...*x509.Certificate) []byte { return encodeCertificates(certs) }
	withHeader := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: leaf.Raw})
	many := slices.Repeat([]*x509.Certificate{a.intermediate}, maxChain+1)
	for name, test := range map[string]struct {
		data    []byte
		want    []*x509.Certificate
		problem string
	}{
		"leaf":                 {data: chain(leaf), want: []*x509.Certificate{leaf}},
		"root is dropped":      {data: chain(leaf, a.intermediate, a.root), want: []*x509.Certificate{leaf, a.intermediate}},
		"self-signed leaf":     {data: chain(a.root), want: []*x509.Certificate{a.root}},
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
			got, err := parseIssued(test.data)
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

// FuzzParseIssued: what is accepted can be written and read again without change,
// and nothing but certificates is ever written.
func FuzzParseIssued(f *testing.F) {
	a := newAuthority(f, "ca")
	leaf := a.pair(f, names{dns: []string{"a"}, uris: []string{"spiffe://example.org/x"}}, time.Hour)
	f.Add(encodeCertificates(leaf.Chain))
	f.Add(a.bundle())
	f.Add([]byte("text\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		chain, err := parseIssued(data)
		if err != nil {
			return
		}
		if len(chain) == 0 || len(chain) > maxChain {
			t.Fatalf("a chain of %d", len(chain))
		}
		written := encodeCertificates(chain)
		again, err := parseIssued(written)
		if err != nil || !slices.EqualFunc(chain, again, (*x509.Certificate).Equal) {
			t.Errorf("wrote %d certificates, read %d, error %v", len(chain), len(again), err)
		}
		if n := bytes.Count(written, []byte("-----BEGIN ")); n != len(chain) {
			t.Errorf("wrote %d PEM blocks for %d certificates", n, len(chain))
		}
	})
}

func TestLeadsTo(t *testing.T) {
	a, other := newAuthority(t, "ca"), newAuthority(t, "other")
	pair := a.pair(t, names{uris: []string{"spiffe://example.org/ns/shop/sa/cart"}}, time.Hour)
	short := &Pair{Chain: pair.Chain[:1], Key: pair.Key}
	now := time.Now()
	for name, test := range map[string]struct {
		pair   *Pair
		anchor *x509.Certificate
		at     time.Time
		ok     bool
	}{
		"its root":         {pair, a.root, now, true},
		"its intermediate": {short, a.intermediate, now, true},
		"another root":     {pair, other.root, now, false},
		"no intermediate":  {short, a.root, now, false},
		"within the skew":  {pair, a.root, pair.Leaf().NotBefore.Add(-clockSkew), true},
		"before the skew":  {pair, a.root, pair.Leaf().NotBefore.Add(-clockSkew - time.Second), false},
		"after its end":    {pair, a.root, pair.Leaf().NotAfter.Add(time.Second), false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.pair.leadsTo(&Bundle{certs: []*x509.Certificate{test.anchor}}, test.at); (err == nil) != test.ok {
				t.Errorf("error %v, want success: %t", err, test.ok)
			}
		})
	}
}
