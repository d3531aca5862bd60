// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
)

// TestPublicRoots: where there are no files of roots, as in the image, the public ones are there all the same.
func TestPublicRoots(t *testing.T) {
	if os.Getenv("CERTWRIGHT_TEST_ROOTS") != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(!pool.Equal(x509.NewCertPool())); err != nil {
			t.Fatal(err)
		}
		return
	}
	none := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPublicRoots$")
	cmd.Env = append(os.Environ(), "CERTWRIGHT_TEST_ROOTS=1", "SSL_CERT_FILE="+none+"/none.pem", "SSL_CERT_DIR="+none)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if string(out[:4]) != "true" {
		t.Errorf("there are no roots: %s", out)
	}
}
