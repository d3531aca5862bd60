// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package member

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/verify"
)

// BenchmarkAsk compares what the guards around a backend cost with what has to be done anyway: to verify what it returned.
func BenchmarkAsk(b *testing.B) {
	req, err := csr.Parse(example.Approved(b, nil))
	if err != nil {
		b.Fatal(err)
	}
	req = req.WithDuration(time.Hour)
	chain, err := example.Honest(req)
	if err != nil {
		b.Fatal(err)
	}
	quick := example.Backend(func(csr.Request) ([]*x509.Certificate, error) { return chain, nil })
	anchors := []*x509.Certificate{example.Root.Certificate}
	b.Run("backend and Verify alone", func(b *testing.B) {
		for b.Loop() {
			signed, err := quick.Sign(b.Context(), req)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := verify.Chain(signed, anchors, req, example.Now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("with timeout, bulkhead, breaker", func(b *testing.B) {
		m := newMember(b, example.Anchored{Backend: quick, Anchors: anchors})
		m.learn(b.Context())
		m.Trust(anchors)
		for b.Loop() {
			if _, err := m.Sign(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("down", func(b *testing.B) {
		m := newMember(b, quick)
		m.breaker.Probed(ErrUnpublished)
		for b.Loop() {
			if _, err := m.Sign(b.Context(), req); err == nil {
				b.Fatal("it signs")
			}
		}
	})
}
