// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm_test

import (
	"testing"

	"github.com/certwright/certwright/signer/signertest"
)

func TestConformance(t *testing.T) {
	for _, algorithm := range []string{"RSA-2048", "ECDSA-P256", "ECDSA-P384", "Ed25519"} {
		t.Run(algorithm, func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) signertest.Subject {
				w := newWorld(t, uriOf("test", algorithm), string(certificates[algorithm]), pin)
				return signertest.Subject{Backend: w.Backend, Clock: w.clock}
			})
		})
	}
}
