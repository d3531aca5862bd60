// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"testing"

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
					w := newWorld(t, v1alpha1.CA{Managed: &v1alpha1.ManagedCA{KeyAlgorithm: algorithm}}, isCA)
					return signertest.Subject{Backend: w.Backend, Clock: w.clock, IsCA: isCA}
				})
			})
		}
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
