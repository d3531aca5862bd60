// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/certwright/certwright/signer/ca/device"
	"github.com/certwright/certwright/signer/ca/keyuri"
	"github.com/certwright/certwright/signer/signertest"
)

// BenchmarkSign issues the same certificate with a key in a token of SoftHSM and with one in memory, all checks included.
func BenchmarkSign(b *testing.B) {
	for _, algorithm := range []string{"ECDSA-P256", "RSA-2048", "Ed25519"} {
		request := signertest.Request(b, signertest.Key(b, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.example.com"}}, nil, time.Hour)
		for where, w := range map[string]*world{
			"token":  newWorld(b, uriOf("test", algorithm), string(certificates[algorithm]), pin),
			"memory": inMemory(b, algorithm),
		} {
			b.Run(algorithm+"/"+where, func(b *testing.B) {
				for b.Loop() {
					if _, err := w.Sign(b.Context(), request); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkDevice is what package device adds to each signature: a goroutine and its bookkeeping.
func BenchmarkDevice(b *testing.B) {
	key := signertest.Key(b, "ECDSA-P256")
	k := device.New(device.Options{Public: key.Public(), Open: func(context.Context) (crypto.Signer, error) { return key, nil }})
	digest := make([]byte, 32)
	for name, signer := range map[string]crypto.Signer{"direct": key, "device": k.Signer(b.Context())} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := signer.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// inMemory is a backend as newWorld makes it, but for where the key is.
func inMemory(b *testing.B, algorithm string) *world {
	b.Helper()
	key := signertest.Key(b, algorithm)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA in memory"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return newWorldWith(b, func(context.Context, keyuri.URI, string, crypto.PublicKey) (crypto.Signer, error) { return key, nil }, uriOf("test", algorithm), string(chain), pin)
}
