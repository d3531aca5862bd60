// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
)

// TestFollow breaks a policy before any request asked for it: the judge knows the good version all the same.
func TestFollow(t *testing.T) {
	scheme := fake.NewClientBuilder().Build().Scheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	informers := &informertest.FakeInformers{Scheme: scheme}
	world := newStore(t, cluster(generation("p", 2, broken))...)
	j := newJudge(world, world)
	if err := j.Follow(t.Context(), informers); err != nil {
		t.Fatal(err)
	}
	informer, err := informers.FakeInformerFor(t.Context(), &v1alpha1.CertificatePolicy{})
	if err != nil {
		t.Fatal(err)
	}
	informer.Add(generation("p", 1, "a.example.com"))
	informer.Update(generation("p", 1, "a.example.com"), generation("p", 2, broken))
	if d := decide(t, j, request("a.example.com")); d.Verdict != policy.Permit {
		t.Errorf("got %v, want the good version to permit", d.Verdict)
	}
}
