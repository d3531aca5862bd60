// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestRun(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	looks := make(chan struct{})
	k := New(interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, isSecret := o.(*corev1.Secret); isSecret {
				looks <- struct{}{}
			}
			return w.Get(ctx, key, o, opts...)
		},
	}), eager{c.clock}, opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	for range 3 {
		<-looks
	}
	cancel()
	for {
		select {
		case <-looks:
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			c.assertServed(k)
			return
		}
	}
}
