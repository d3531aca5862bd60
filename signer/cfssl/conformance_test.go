// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl_test

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/signer/signertest"
)

func fixedUsages() (fixed []certificatesv1.KeyUsage) {
	for _, u := range usages {
		fixed = append(fixed, certificatesv1.KeyUsage(u))
	}
	return fixed
}

func TestConformanceServe(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		root := newCertificate(t, "Root", "ECDSA-P256", nil, nil)
		upper := newCertificate(t, "Upper", "ECDSA-P256", root, nil)
		s := configure(t, newCertificate(t, "Lower", "ECDSA-P256", upper, nil), map[string]profile{"workloads": workloads()}).serve(t)
		config := s.config()
		config.Chain = pemCert(root) + pemCert(upper)
		made := subject(newBackend(t, config, secret(authKey)))
		made.Cannot = signertest.Cannot{OtherUsages: fixedUsages(), OtherLifetimes: time.Hour}
		return made
	})
}

func TestConformanceMultiroot(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		s := configure(t, newCertificate(t, "Root", "RSA-2048", nil, nil), map[string]profile{"workloads": workloads()}).multiroot(t)
		config := s.config()
		config.Label = "workloads"
		made := subject(newBackend(t, config, secret(authKey)))
		made.Cannot = signertest.Cannot{OtherUsages: fixedUsages()}
		return made
	})
}

// A profile with a csr_whitelist may take no names from the PKCS #10 request. Only subjects that cfssl has no words for need one
// that takes those.
func TestConformanceWhitelist(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		locked := workloads().with("CSRWhitelist", map[string]bool{"Subject": true, "PublicKey": true, "PublicKeyAlgorithm": true, "SignatureAlgorithm": true})
		s := configure(t, newCertificate(t, "Root", "ECDSA-P256", nil, nil), map[string]profile{"workloads": locked}).multiroot(t)
		config := s.config()
		config.Label = "workloads"
		made := subject(newBackend(t, config, secret(authKey)))
		made.Cannot = signertest.Cannot{OtherUsages: fixedUsages()}
		return made
	})
}
