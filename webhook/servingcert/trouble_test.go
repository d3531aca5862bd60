// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// Two replicas start at once: each sees no Secret, one creates it, the other
// takes over what is there.
func TestRace(t *testing.T) {
	t.Run("first start", func(t *testing.T) {
		c := newCluster(t, configuration())
		fast := c.keeper()
		slow := New(interceptor.NewClient(c, interceptor.Funcs{
			Create: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				c.sync(fast)
				return w.Create(ctx, o, opts...)
			},
		}), c.clock, opts)
		c.sync(slow)
		if !c.assertServed(slow).Equal(c.assertServed(fast)) {
			t.Fatal("the replicas serve different certificates")
		}
	})
	t.Run("rotation", func(t *testing.T) {
		c := newCluster(t, configuration())
		fast := c.keeper()
		c.sync(fast)
		c.clock.SetTime(start.Add(lifetime * 2 / 3))
		once := true
		slow := New(interceptor.NewClient(c, interceptor.Funcs{
			Update: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				if once {
					once = false
					c.sync(fast)
				}
				return w.Update(ctx, o, opts...)
			},
		}), c.clock, opts)
		c.sync(slow)
		if got := certificates(c.config().Webhooks[0].ClientConfig.CABundle); got != 2 {
			t.Fatalf("%d CAs in the caBundle, want 2: only one replica may make the next certificate", got)
		}
		c.assertServed(slow)
	})
	t.Run("stale bundle", func(t *testing.T) {
		c := newCluster(t, configuration())
		fast := c.keeper()
		c.sync(fast)
		config := c.config()
		config.Webhooks[0].ClientConfig.CABundle = nil
		if err := c.Update(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		once := true
		slow := New(interceptor.NewClient(c, interceptor.Funcs{
			Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if once { // the bundle in p has one CA; meanwhile the other replica writes two
					once = false
					c.clock.SetTime(start.Add(lifetime * 2 / 3))
					c.sync(fast)
				}
				return w.Patch(ctx, o, p, opts...)
			},
		}), c.clock, opts)
		c.sync(slow)
		if got := certificates(c.config().Webhooks[0].ClientConfig.CABundle); got != 2 {
			t.Fatalf("%d CAs in the caBundle, want 2: an older bundle replaced a newer one", got)
		}
	})
	t.Run("never ending", func(t *testing.T) {
		c := newCluster(t, configuration())
		conflict := apierrors.NewConflict(corev1.Resource("secrets"), secret.Name, errors.New("changed"))
		k := New(interceptor.NewClient(c, interceptor.Funcs{
			Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return conflict },
		}), c.clock, opts)
		if err := k.Sync(t.Context()); !apierrors.IsConflict(err) {
			t.Fatalf("error %v, want the conflict", err)
		}
	})
}

func TestConfigurationMissing(t *testing.T) {
	c := newCluster(t)
	k := c.keeper()
	err := k.Sync(t.Context())
	if !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "install it") {
		t.Fatalf("error %v, want one that says to install the configuration", err)
	}
	if _, err := k.GetCertificate(nil); err != nil {
		t.Errorf("nothing is served: %v", err)
	}
	if err := k.Ready(nil); err == nil {
		t.Error("ready without a configuration")
	}
	if err := c.Create(t.Context(), configuration()); err != nil {
		t.Fatal(err)
	}
	c.sync(k)
	c.assertServed(k)
}

func TestTroubleLeavesWhatIsServed(t *testing.T) {
	c := newCluster(t, configuration())
	trouble := apierrors.NewInternalError(errors.New("out of order"))
	down := false
	k := New(interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, isSecret := o.(*corev1.Secret); isSecret && down {
				return trouble
			}
			return w.Get(ctx, key, o, opts...)
		},
	}), c.clock, opts)
	c.sync(k)
	first := c.assertServed(k)
	down = true
	if err := k.Sync(t.Context()); !apierrors.IsInternalError(err) {
		t.Fatalf("error %v, want the API server's", err)
	}
	if !c.assertServed(k).Equal(first) || c.writes != 2 {
		t.Fatalf("another certificate is served, or something was written (%d writes)", c.writes)
	}
}
