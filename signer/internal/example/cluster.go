// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package example

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Cluster is a fake API server that notes every write, with a clock beside it.
type Cluster struct {
	Client client.Client
	Clock  *testingclock.FakePassiveClock
	// Writes are all that were made or tried, such as "patch status web" and "create Event".
	Writes []string
	// Patches are the bodies of those writes that are patches of a subresource.
	Patches []string
	// Tamper, if set, is called before each write of a subresource; its error takes the place of the write.
	Tamper func(subresource string, o client.Object) error
	// ReadErr, if set, is asked before each read; its error takes the place of the read.
	ReadErr func(o runtime.Object) error
}

// NewCluster returns an API server that holds the objects.
func NewCluster(t testing.TB, objects ...client.Object) *Cluster {
	t.Helper()
	c := &Cluster{Clock: testingclock.NewFakePassiveClock(Now)}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.Signer{}).
		WithIndex(&v1alpha1.CertificatePolicy{}, v1alpha1.IndexSignerName, func(o client.Object) []string {
			return o.(*v1alpha1.CertificatePolicy).Spec.SignerNames
		}).
		WithIndex(&v1alpha1.Signer{}, v1alpha1.IndexSignerName, func(o client.Object) []string {
			return []string{o.(*v1alpha1.Signer).Spec.SignerName}
		}).
		WithInterceptorFuncs(c.funcs()).Build()
	return c
}

// Pass lets time pass.
func (c *Cluster) Pass(d time.Duration) { c.Clock.SetTime(c.Clock.Now().Add(d)) }

// Add creates the objects.
func (c *Cluster) Add(t testing.TB, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// funcs notes the writes.
func (c *Cluster) funcs() interceptor.Funcs {
	note := func(verb string, o client.Object) {
		c.Writes = append(c.Writes, fmt.Sprintf("%s %s", verb, o.GetName()))
	}
	read := func(o runtime.Object) error {
		if c.ReadErr == nil {
			return nil
		}
		return c.ReadErr(o)
	}
	return interceptor.Funcs{
		Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := read(o); err != nil {
				return err
			}
			return api.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := read(list); err != nil {
				return err
			}
			return api.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := api.Create(ctx, o, opts...); err != nil {
				return err
			}
			if _, ok := o.(*eventsv1.Event); ok {
				c.Writes = append(c.Writes, "create Event")
			}
			return nil
		},
		Update: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			note("update", o)
			return api.Update(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			note("patch", o)
			return api.Patch(ctx, o, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, api client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			note("patch "+sub, o)
			if c.Tamper != nil {
				if err := c.Tamper(sub, o); err != nil {
					return err
				}
			}
			data, err := p.Data(o)
			if err != nil {
				return err
			}
			c.Patches = append(c.Patches, string(data))
			return api.SubResource(sub).Patch(ctx, o, p, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, api client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			note("update "+sub, o)
			if c.Tamper != nil {
				if err := c.Tamper(sub, o); err != nil {
					return err
				}
			}
			return api.SubResource(sub).Update(ctx, o, opts...)
		},
	}
}

// Count adds up a metric's series that have all of the label values: counters and gauges by value, histograms by count.
func Count(t testing.TB, registry prometheus.Gatherer, metric string, values ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() != metric {
			continue
		}
		for _, series := range family.GetMetric() {
			var labels []string
			for _, l := range series.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(labels, v) }) {
				sum += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}
