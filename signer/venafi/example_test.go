// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi_test

import (
	"os"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/venafi"
)

// The example in manifests is one that the webhook lets pass.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../manifests/examples/signers/venafi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var example v1alpha1.Signer
	if err := yaml.UnmarshalStrict(text, &example); err != nil {
		t.Fatal(err)
	}
	if _, err := venafi.New(venafi.Options{Venafi: *example.Spec.Backends[0].Venafi}); err != nil {
		t.Error(err)
	}
}
