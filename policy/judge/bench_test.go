// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/policy"
)

// indexed reads from the index that a manager's cache is made of. A fake client would make every List slow by encoding
// all that there is.
type indexed struct {
	client.Reader
	policies cache.Indexer
	objects  []client.Object
}

// IndexField takes over the index for policies.
func (r *indexed) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	if _, ok := o.(*v1alpha1.CertificatePolicy); !ok {
		return nil
	}
	return r.policies.AddIndexers(cache.Indexers{field: func(o any) ([]string, error) { return values(o.(client.Object)), nil }})
}

func (r *indexed) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	i := slices.IndexFunc(r.objects, func(o client.Object) bool {
		return fmt.Sprintf("%T", o) == fmt.Sprintf("%T", into) && client.ObjectKeyFromObject(o) == key
	})
	switch into := into.(type) {
	case *corev1.Namespace:
		r.objects[i].(*corev1.Namespace).DeepCopyInto(into)
	case *corev1.Pod:
		r.objects[i].(*corev1.Pod).DeepCopyInto(into)
	}
	return nil
}

func (r *indexed) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	switch into := into.(type) {
	case *v1alpha1.CertificatePolicyList:
		name, _ := o.FieldSelector.RequiresExactMatch(v1alpha1.IndexSignerName)
		found, err := r.policies.ByIndex(v1alpha1.IndexSignerName, name)
		for _, p := range found {
			into.Items = append(into.Items, *p.(*v1alpha1.CertificatePolicy))
		}
		return err
	case *corev1.ServiceList:
		for _, object := range r.objects {
			if s, ok := object.(*corev1.Service); ok {
				into.Items = append(into.Items, *s)
			}
		}
	}
	return nil
}

// BenchmarkDecide shows that policies for other signerNames cost nothing.
func BenchmarkDecide(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprintf("%d others", others), func(b *testing.B) {
			reader := &indexed{policies: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}), objects: cluster(service("web"))}
			if err := Index(context.Background(), reader); err != nil {
				b.Fatal(err)
			}
			policies := []*v1alpha1.CertificatePolicy{generation("ours", 1, "{service}.{namespace}.svc")}
			for i := range others {
				p := generation(fmt.Sprintf("p%d", i), 1, "{service}.{namespace}.svc")
				p.Spec.SignerNames = []string{fmt.Sprintf("example.com/other-%d", i)}
				policies = append(policies, p)
			}
			for _, p := range policies {
				if err := reader.policies.Add(p); err != nil {
					b.Fatal(err)
				}
			}
			j, req := newJudge(reader, reader), request("web.shop.svc")
			b.ReportAllocs()
			for b.Loop() {
				if d := decide(b, j, req); d.Verdict != policy.Permit {
					b.Fatal(d.Message())
				}
			}
		})
	}
}
