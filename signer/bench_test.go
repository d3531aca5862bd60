// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/certwright/certwright/csr"
)

// BenchmarkAsk compares what the guards around a backend cost with what has to be done anyway: to verify what it returned.
func BenchmarkAsk(b *testing.B) {
	req, err := csr.Parse(approved(b, nil))
	if err != nil {
		b.Fatal(err)
	}
	req = req.WithDuration(time.Hour)
	chain, err := honest(req)
	if err != nil {
		b.Fatal(err)
	}
	quick := backend(func(csr.Request) ([]*x509.Certificate, error) { return chain, nil })
	anchors := []*x509.Certificate{root.Certificate}
	b.Run("backend and Verify alone", func(b *testing.B) {
		for b.Loop() {
			signed, err := quick.Sign(b.Context(), req)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Verify(signed, anchors, req, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("with timeout, bulkhead, breaker", func(b *testing.B) {
		m := newMemberOf(b, anchored{backend: quick, anchors: anchors})
		m.learn(b.Context())
		m.trust(anchors)
		for b.Loop() {
			if _, err := m.sign(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("down", func(b *testing.B) {
		m := newMemberOf(b, quick)
		m.breaker.Probed(errUnpublished)
		for b.Loop() {
			if _, err := m.sign(b.Context(), req); err == nil {
				b.Fatal("it signs")
			}
		}
	})
}
