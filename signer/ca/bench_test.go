// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/log"
	cfsslsigner "github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"

	"github.com/certwright/certwright/signer/signertest"
)

// BenchmarkSign signs the same request with this package, which also compares and verifies what it signed, and with
// cfssl's local signer, which does not: see docs/adr/0003-cfssl.md.
func BenchmarkSign(b *testing.B) {
	for _, algorithm := range []string{"ECDSA-P256", "RSA-2048"} {
		root := newIssuer(b, "Root", algorithm, nil, nil)
		lower := newIssuer(b, "Lower", algorithm, root, nil)
		req := signertest.Request(b, signertest.Key(b, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.example.com"}}, nil, time.Hour)
		b.Run(algorithm+"/certwright", func(b *testing.B) {
			w := newWorld(b, importedCA(), false, tlsSecret(b, lower.key, lower, root))
			for b.Loop() {
				if _, err := w.Sign(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(algorithm+"/cfssl", func(b *testing.B) {
			log.Level = log.LevelFatal
			profile := &config.SigningProfile{Usage: []string{"digital signature", "server auth", "client auth"}, Expiry: req.Duration, ExpiryString: req.Duration.String()}
			cfssl, err := local.NewSigner(lower.key, lower.cert, cfsslsigner.DefaultSigAlgo(lower.key), &config.Signing{Default: profile})
			if err != nil {
				b.Fatal(err)
			}
			request := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req.DER}))
			for b.Loop() {
				if _, err := cfssl.Sign(cfsslsigner.SignRequest{Request: request}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
