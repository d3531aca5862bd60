// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl_test

import (
	"os"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/cfssl"
)

// The example in manifests is one that the webhook lets pass.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../manifests/examples/signers/cfssl.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var example v1alpha1.Signer
	if err := yaml.UnmarshalStrict(text, &example); err != nil {
		t.Fatal(err)
	}
	if _, err := cfssl.New(cfssl.Options{CFSSL: *example.Spec.Backends[0].CFSSL}); err != nil {
		t.Error(err)
	}
}
