// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"context"
	"errors"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// Two replicas start at once: each sees an empty Secret, one fills it in, the
// other takes over what is there.
func TestRace(t *testing.T) {
	t.Run("first start", func(t *testing.T) {
		c := newCluster(t, mutatingConfiguration())
		fast, once := c.keeper(), true
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
		if !c.assertServed(slow).Equal(c.assertServed(fast)) {
			t.Fatal("the replicas serve different certificates")
		}
	})
	t.Run("rotation", func(t *testing.T) {
		c := newCluster(t, mutatingConfiguration())
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
		c := newCluster(t, mutatingConfiguration())
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
		c := newCluster(t, mutatingConfiguration())
		conflict := apierrors.NewConflict(corev1.Resource("secrets"), secret.Name, errors.New("changed"))
		k := New(interceptor.NewClient(c, interceptor.Funcs{
			Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error { return conflict },
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
	if err := c.Create(t.Context(), mutatingConfiguration()); err != nil {
		t.Fatal(err)
	}
	c.sync(k)
	c.assertServed(k)
}

func TestTroubleLeavesWhatIsServed(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
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

// Who installs only half is told what to do, by the log and by the readiness of the pod.
func TestSecretMissing(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	if err := c.Delete(t.Context(), emptySecret()); err != nil {
		t.Fatal(err)
	}
	k := c.keeper()
	const advice = "kubectl create secret generic hook-tls --namespace hooks"
	if err := k.Sync(t.Context()); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), advice) {
		t.Errorf("error %v, want one that says to create the Secret", err)
	}
	if err := k.Ready(nil); err == nil || !strings.Contains(err.Error(), advice) {
		t.Errorf("readiness says %v, want to create the Secret", err)
	}
	if c.writes != 0 {
		t.Errorf("%d writes, want none", c.writes)
	}
	if err := c.base.Create(t.Context(), emptySecret()); err != nil { // by an administrator
		t.Fatal(err)
	}
	c.sync(k)
	c.assertServed(k)
}

// Without the right to write the validating configuration, or to read it, pods are served all the same.
func TestValidatingConfigurationForbidden(t *testing.T) {
	forbidden := apierrors.NewForbidden(admissionregistrationv1.Resource("validatingwebhookconfigurations"), "hook", errors.New("no"))
	isValidating := func(o client.Object) bool {
		_, is := o.(*admissionregistrationv1.ValidatingWebhookConfiguration)
		return is
	}
	for name, funcs := range map[string]interceptor.Funcs{
		"get": {Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if isValidating(o) {
				return forbidden
			}
			return w.Get(ctx, key, o, opts...)
		}},
		"patch": {Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if isValidating(o) {
				return forbidden
			}
			return w.Patch(ctx, o, p, opts...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, mutatingConfiguration(), validatingConfiguration())
			k := New(interceptor.NewClient(c, funcs), c.clock, opts)
			if err := k.Sync(t.Context()); !apierrors.IsForbidden(err) {
				t.Errorf("error %v, want the API server's", err)
			}
			if err := k.Ready(nil); err != nil {
				t.Errorf("not ready: %v", err)
			}
		})
	}
}
