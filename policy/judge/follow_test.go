// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"context"
	"errors"
	"reflect"
	"testing"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
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

// noIndexer is a cache that takes no index of one kind.
type noIndexer struct{ of client.Object }

func (n noIndexer) IndexField(_ context.Context, o client.Object, _ string, _ client.IndexerFunc) error {
	if reflect.TypeOf(o) == reflect.TypeOf(n.of) {
		return errors.New("it runs already")
	}
	return nil
}

// stopped is an informer that takes no handler any more.
type stopped struct{ cache.Informer }

func (stopped) AddEventHandler(toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	return nil, errors.New("it has stopped")
}

type stoppedInformers struct{ cache.Informers }

func (stoppedInformers) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return stopped{}, nil
}

// A judge that cannot be set up says so, rather than to miss policies.
func TestSetupFails(t *testing.T) {
	j := newJudge(nil, nil)
	for want, err := range map[string]error{
		"indexing certificate policies: it runs already": Index(t.Context(), noIndexer{&v1alpha1.CertificatePolicy{}}),
		"indexing signers: it runs already":              Index(t.Context(), noIndexer{&v1alpha1.Signer{}}),
		"watching certificate policies: no such kind":    j.Follow(t.Context(), &informertest.FakeInformers{Error: errors.New("no such kind")}),
		"watching certificate policies: it has stopped":  j.Follow(t.Context(), stoppedInformers{}),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
