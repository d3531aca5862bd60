// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package fleettest

import (
	"os"
	"path/filepath"
	"testing"
)

// Golden holds what was printed against testdata/NAME.txt. With the environment variable UPDATE_GOLDEN it writes the file anew.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant, by %s,\n%s", got, file, want)
	}
}
