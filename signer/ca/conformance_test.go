// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/signertest"
)

func TestConformanceManaged(t *testing.T) {
	for _, algorithm := range []string{"ECDSA-P256", "Ed25519", "RSA-3072"} {
		for name, isCA := range map[string]bool{"leaves": false, "leaves and CAs": true} {
			if isCA && algorithm != "ECDSA-P256" {
				continue // path lengths do not depend on the key
			}
			t.Run(algorithm+" "+name, func(t *testing.T) {
				signertest.Run(t, func(t *testing.T) signertest.Subject {
					w := newManagedWorld(t, v1alpha1.CA{Managed: &v1alpha1.ManagedCA{KeyAlgorithm: algorithm}}, isCA)
					return signertest.Subject{Backend: w.Backend, Clock: w.clock, IsCA: isCA}
				})
			})
		}
	}
}

// While roots are being replaced, the chains have one certificate more, by which those verify who know the old root only.
func TestConformanceWhileRotating(t *testing.T) {
	for name, isCA := range map[string]bool{"leaves": false, "leaves and CAs": true} {
		t.Run(name, func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) signertest.Subject {
				w := newWorld(t, quick(managed()), isCA)
				w.clock.SetTime(start.Add(-5 * propagation)) // GnuTLS takes the time that it is
				w.begin(time.Minute)
				roots, err := w.TrustAnchors(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				ask := w.ask(w.TrustAnchors, map[string]string{v1alpha1.AnnotationRotateRoot: fingerprint(roots[0])})
				for range 4 { // begin, write down how long certificates live, see both roots, and switch
					if _, err := w.Rotate(t.Context(), ask); err != nil {
						t.Fatal(err)
					}
					w.clock.Step(propagation)
				}
				if n := len(w.mustSign(time.Hour)); n != 3 {
					t.Fatalf("the chain has %d certificates, want leaf, intermediate and cross certificate", n)
				}
				return signertest.Subject{Backend: w.Backend, Clock: w.clock, IsCA: isCA, Anchors: roots}
			})
		})
	}
}

func TestConformanceImported(t *testing.T) {
	for _, algorithm := range []string{"ECDSA-P384", "Ed25519", "RSA-2048"} {
		t.Run(algorithm, func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) signertest.Subject {
				root := newIssuer(t, "Root", algorithm, nil, nil)
				upper := newIssuer(t, "Upper", algorithm, root, nil)
				lower := newIssuer(t, "Lower", algorithm, upper, nil)
				w := newWorld(t, importedCA(), true, tlsSecret(t, lower.key, lower, upper, root))
				return signertest.Subject{Backend: w.Backend, Clock: w.clock, IsCA: true}
			})
		})
	}
	t.Run("root alone", func(t *testing.T) {
		signertest.Run(t, func(t *testing.T) signertest.Subject {
			root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
			w := newWorld(t, importedCA(), false, tlsSecret(t, root.key, root))
			return signertest.Subject{Backend: w.Backend, Clock: w.clock}
		})
	})
}
