// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"os"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/order"
)

// The example in manifests is one that the webhook lets pass.
func TestExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../manifests/examples/signers/acme.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var example v1alpha1.Signer
	if err := yaml.UnmarshalStrict(text, &example); err != nil {
		t.Fatal(err)
	}
	cluster := acmetest.NewCluster(t)
	backend := example.Spec.Backends[0]
	b, err := acme.New(acme.Options{
		Client: cluster.Client, Reader: cluster.Client, Namespace: acmetest.Namespace, Signer: example.Name, Backend: backend.Name, ACME: *backend.ACME,
		Orders: order.NewBook(cluster.Client, cluster.Client, acmetest.Namespace, nil), NewSolver: cluster.NewSolver,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
