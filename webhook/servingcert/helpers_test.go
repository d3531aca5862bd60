// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const dnsName = "hook.hooks.svc"

var (
	start  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	secret = types.NamespacedName{Namespace: "hooks", Name: "hook-tls"}
	opts   = Options{Secret: secret, Configuration: "hook", DNSName: dnsName}
)

// cluster is a fake API server that counts writes.
type cluster struct {
	client.WithWatch
	base   client.Client // without counting
	t      *testing.T
	writes int
	clock  *clocktesting.FakeClock
}

// The Secret is there from the start, empty, unless objects bring one.
func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	if !slices.ContainsFunc(objects, func(o client.Object) bool { _, is := o.(*corev1.Secret); return is }) {
		objects = append(objects, emptySecret())
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), admissionregistrationv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, clock: clocktesting.NewFakeClock(start)}
	base := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	c.base = base
	c.WithWatch = interceptor.NewClient(base, interceptor.Funcs{
		Create: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if _, is := o.(*corev1.Secret); is {
				t.Error("a Secret is created, which the webhook may not")
			}
			return w.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			c.writes++
			return w.Update(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			c.writes++
			return w.Patch(ctx, o, p, opts...)
		},
	})
	return c
}

func emptySecret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name}, Type: corev1.SecretTypeOpaque}
}

func mutatingConfiguration() *admissionregistrationv1.MutatingWebhookConfiguration {
	hook := func(name string) admissionregistrationv1.MutatingWebhook {
		sideEffects, path := admissionregistrationv1.SideEffectClassNone, "/mutate"
		return admissionregistrationv1.MutatingWebhook{
			Name:                    name,
			SideEffects:             &sideEffects,
			AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "hooks", Name: "hook", Path: &path},
			},
		}
	}
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "hook", Labels: map[string]string{"kept": "yes"}},
		Webhooks:   []admissionregistrationv1.MutatingWebhook{hook("a.example.com"), hook("b.example.com")},
	}
}

func (c *cluster) config() *admissionregistrationv1.MutatingWebhookConfiguration {
	c.t.Helper()
	var config admissionregistrationv1.MutatingWebhookConfiguration
	if err := c.Get(c.t.Context(), types.NamespacedName{Name: "hook"}, &config); err != nil {
		c.t.Fatal(err)
	}
	return &config
}

// bundles are the caBundles of all webhooks.
func (c *cluster) bundles() (all [][]byte) {
	c.t.Helper()
	for _, hook := range c.config().Webhooks {
		all = append(all, hook.ClientConfig.CABundle)
	}
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	if err := c.Get(c.t.Context(), types.NamespacedName{Name: "hook"}, &validating); client.IgnoreNotFound(err) != nil {
		c.t.Fatal(err)
	}
	for _, hook := range validating.Webhooks {
		all = append(all, hook.ClientConfig.CABundle)
	}
	return all
}

func (c *cluster) secret() *corev1.Secret {
	c.t.Helper()
	var s corev1.Secret
	if err := c.Get(c.t.Context(), secret, &s); err != nil {
		c.t.Fatal(err)
	}
	return &s
}

func (c *cluster) keeper() *Keeper { return New(c, c.clock, opts) }

// sync runs Sync and returns how many writes it took.
func (c *cluster) sync(k *Keeper) int {
	c.t.Helper()
	before := c.writes
	if err := k.Sync(c.t.Context()); err != nil {
		c.t.Fatalf("syncing: %v", err)
	}
	return c.writes - before
}

// assertServed shakes hands as the API server would: trusting the caBundle.
func (c *cluster) assertServed(k *Keeper) *x509.Certificate {
	c.t.Helper()
	if err := k.Ready(nil); err != nil {
		c.t.Fatalf("not ready: %v", err)
	}
	var leaf *x509.Certificate
	for _, bundle := range c.bundles() {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(bundle) {
			c.t.Fatal("a caBundle holds no certificate")
		}
		left, right := net.Pipe()
		server := tls.Server(left, &tls.Config{GetCertificate: k.GetCertificate, Time: c.clock.Now})
		client := tls.Client(right, &tls.Config{RootCAs: roots, ServerName: dnsName, Time: c.clock.Now})
		served := make(chan error, 1)
		go func() { served <- server.Handshake() }()
		if err := client.Handshake(); err != nil {
			c.t.Fatalf("handshake: %v", err)
		}
		leaf = client.ConnectionState().PeerCertificates[0]
		if err := <-served; err != nil {
			c.t.Fatalf("handshake of the server: %v", err)
		}
		_, _ = right.Close(), left.Close()
	}
	return leaf
}

func certificates(bundle []byte) int { return bytes.Count(bundle, []byte("BEGIN CERTIFICATE")) }
