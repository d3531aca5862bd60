// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/certwright/certwright/cmd/certwright-kms/hsm"
	"github.com/certwright/certwright/signer/ca/keyuri"
)

// Each kind of URI goes to what opens it.
func TestOpener(t *testing.T) {
	open := opener(&hsm.Modules{})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for raw, text := range map[string]string{
		"pkcs11:token=a;object=b?module-path=/usr/lib/pkcs11/missing.so":              "loading PKCS #11 module",
		"awskms:region=eu-north-1;key-id=alias/ca":                                    "awskms",
		"cloudkms:projects/a/locations/b/keyRings/c/cryptoKeys/d/cryptoKeyVersions/1": "connecting to the KMS",
	} {
		uri, err := keyuri.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(cancelled, uri, "", ed25519.PublicKey{}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want it to say %q", raw, err, text)
		}
	}
}
