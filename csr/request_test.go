// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"testing"

	"github.com/certwright/certwright/csr"
)

func TestIsKubernetesSigner(t *testing.T) {
	for signerName, want := range map[string]bool{
		"kubernetes.io/kube-apiserver-client": true,
		"foo.kubernetes.io/x":                 true,
		"a.b.kubernetes.io/x":                 true,
		"example.com/internal":                false,
		"notkubernetes.io/x":                  false,
		"kubernetes.io.example.com/x":         false,
		"example.com/kubernetes.io/x":         false,
	} {
		if got := csr.IsKubernetesSigner(signerName); got != want {
			t.Errorf("IsKubernetesSigner(%q) = %t, want %t", signerName, got, want)
		}
	}
}
