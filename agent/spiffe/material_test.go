// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"

	"github.com/certwright/certwright/agent/agenttest"
)

func TestOnlyAnX509SVIDHasAnIdentity(t *testing.T) {
	ca := newAuthority(t)
	for name, test := range map[string]struct {
		ids    []string
		change func(*x509.Certificate)
		want   string // in the reason; "" when it is an SVID
	}{
		"an SVID":         {ids: []string{cartID}},
		"no extended use": {ids: []string{cartID}, change: func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
		"no URI":          {want: "0 URIs"},
		"two SPIFFE IDs":  {ids: []string{cartID, cartID + "2"}, want: "2 URIs"},
		"another URI too": {ids: []string{cartID, "https://example.com"}, want: "2 URIs"},
		"another scheme":  {ids: []string{"https://cluster.local/ns/shop/sa/cart"}, want: "no SPIFFE ID"},
		"upper case":      {ids: []string{"spiffe://Cluster.Local/ns/shop/sa/cart"}, want: "no SPIFFE ID"},
		"port":            {ids: []string{"spiffe://cluster.local:8443/cart"}, want: "no SPIFFE ID"},
		"dots":            {ids: []string{"spiffe://cluster.local/ns/../sa"}, want: "no SPIFFE ID"},
		"escape":          {ids: []string{"spiffe://cluster.local/ns%2Fshop"}, want: "no SPIFFE ID"},
		"query":           {ids: []string{cartID + "?a=b"}, want: "no SPIFFE ID"},
		"trust domain":    {ids: []string{"spiffe://cluster.local"}, want: "no path"},
		"a CA":            {ids: []string{cartID}, change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, want: "a CA"},
		"signs":           {ids: []string{cartID}, change: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, want: "a CA"},
		"no signature":    {ids: []string{cartID}, change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, want: "digital signature"},
		"servers only":    {ids: []string{cartID}, change: func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, want: "client auth"},
	} {
		t.Run(name, func(t *testing.T) {
			template := leaf(test.ids...)
			if test.change != nil {
				test.change(template)
			}
			id, err := identity(ca.sign(t, template, newKey(t)))
			switch {
			case test.want == "" && (err != nil || id.String() != cartID):
				t.Errorf("got %v, %v", id, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !id.IsZero()):
				t.Errorf("got %v, %v; want %q", id, err, test.want)
			}
		})
	}
}

func TestUpdateRefusesAndKeeps(t *testing.T) {
	ca := newAuthority(t)
	s := New("unused", slog.New(slog.DiscardHandler))
	certificate, key := ca.issue(t, s, leaf(cartID))
	before := s.material()
	for name, err := range map[string]error{
		"another key":    s.Update([]*x509.Certificate{certificate}, newKey(t), []*x509.Certificate{ca.Root}),
		"no certificate": s.Update(nil, key, []*x509.Certificate{ca.Root}),
		"no bundle":      s.Update([]*x509.Certificate{certificate}, key, nil),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if s.material() != before {
		t.Error("what is served was replaced")
	}
	if err := s.Update([]*x509.Certificate{certificate, ca.Intermediate}, key, []*x509.Certificate{ca.Root}); err != nil || s.material() != before {
		t.Errorf("the same again: %v, or clients are told of it", err)
	}
}

func TestVersionsTellNothingOfTheKey(t *testing.T) {
	ca := newAuthority(t)
	s := New("unused", slog.New(slog.DiscardHandler))
	certificate, key := ca.issue(t, s, leaf(cartID))
	pkcs8 := agenttest.Must(x509.MarshalPKCS8PrivateKey(key))(t)
	if !bytes.Contains(s.material().svids, pkcs8) {
		t.Error("the SVID lacks its key")
	}
	if got, want := s.material().certificate.version, version(concatenate([]*x509.Certificate{certificate, ca.Intermediate})); got != want {
		t.Errorf("version %q, want %q, which comes from certificates alone", got, want)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(appendBytes(appendBytes(nil, 1, "key"), 2, "value"))
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, message []byte) {
		if got := entry(appendBytes(appendBytes(nil, 2, "first"), 2, message), 2); !bytes.Equal(got, message) {
			t.Errorf("%x became %x", message, got)
		}
		if value := entry(message, 2); value != nil && !bytes.Contains(message, value) {
			t.Errorf("%x holds no %x", message, value)
		}
	})
}
