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
	"strings"
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

func TestFirstStart(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	if err := k.Ready(nil); err == nil {
		t.Fatal("ready before anything was done")
	}
	if _, err := k.GetCertificate(nil); err == nil {
		t.Fatal("a certificate before anything was done")
	}
	if writes := c.sync(k); writes != 2 {
		t.Fatalf("%d writes, want 2: Secret and configuration", writes)
	}
	leaf := c.assertServed(k)
	if writes := c.sync(k); writes != 0 {
		t.Fatalf("%d writes when all is well, want none", writes)
	}
	if c.config().Labels["kept"] != "yes" || c.config().Webhooks[1].ClientConfig.Service.Name != "hook" {
		t.Error("more than the caBundle of the configuration has changed")
	}
	if leaf.IsCA || leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
		t.Error("the served certificate is its own CA")
	}
	for key, value := range c.secret().Data {
		if n := bytes.Count(value, []byte("PRIVATE KEY-----\n")); n > 0 && key != keyKey {
			t.Errorf("%s holds a key; the key of the CA must not be kept", key)
		}
	}
	other := c.keeper()
	if writes := c.sync(other); writes != 0 || !c.assertServed(other).Equal(leaf) {
		t.Errorf("a second replica wrote %d times or serves another certificate", writes)
	}
}

func TestCAIsForOneNameOnly(t *testing.T) {
	g, err := generate(dnsName, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.pair.Leaf.VerifyHostname(dnsName); err != nil {
		t.Error(err)
	}
	if !g.ca.PermittedDNSDomainsCritical || len(g.ca.PermittedDNSDomains) != 1 || g.ca.PermittedDNSDomains[0] != dnsName {
		t.Errorf("name constraints are %v, want only %s, critical", g.ca.PermittedDNSDomains, dnsName)
	}
	if !g.ca.MaxPathLenZero || g.ca.KeyUsage != x509.KeyUsageCertSign {
		t.Error("the CA may sign other CAs or more than certificates")
	}
}

func TestRotation(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k, other := c.keeper(), c.keeper()
	c.sync(k)
	c.sync(other)
	first := c.assertServed(k)

	c.clock.SetTime(start.Add(lifetime*2/3 - time.Second))
	if writes := c.sync(k); writes != 0 {
		t.Fatalf("%d writes before two thirds of the lifetime, want none", writes)
	}
	c.clock.SetTime(start.Add(lifetime * 2 / 3))
	if writes := c.sync(k); writes != 2 {
		t.Fatalf("%d writes to announce the next certificate, want 2", writes)
	}
	if got := certificates(c.config().Webhooks[0].ClientConfig.CABundle); got != 2 {
		t.Fatalf("%d CAs in the caBundle, want the current and the next", got)
	}
	if !c.assertServed(k).Equal(first) {
		t.Fatal("the next certificate is served before its overlap")
	}
	c.clock.Step(overlap - time.Second)
	if writes := c.sync(k); writes != 0 {
		t.Fatalf("%d writes during the overlap, want none", writes)
	}
	c.clock.Step(time.Second)
	if writes := c.sync(k); writes != 1 {
		t.Fatalf("%d writes to promote, want 1: the Secret", writes)
	}
	second := c.assertServed(k)
	if second.Equal(first) {
		t.Fatal("the next certificate is not served after its overlap")
	}
	if !c.assertServed(other).Equal(first) {
		t.Fatal("the other replica has not looked yet and should still serve, trusted, the first certificate")
	}
	if writes := c.sync(other); writes != 0 || !c.assertServed(other).Equal(second) {
		t.Fatalf("the other replica wrote %d times or does not follow", writes)
	}
}

// A next certificate that the API server was never told about is announced first.
func TestNoPromotionWithoutTrust(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	c.sync(k)
	first := c.assertServed(k)
	c.clock.SetTime(start.Add(lifetime * 2 / 3))
	c.sync(k)
	config := c.config()
	config.Webhooks[1].ClientConfig.CABundle = nil // by someone who applied the manifest anew
	if err := c.Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	c.clock.Step(overlap)
	c.sync(k)
	if !c.assertServed(k).Equal(first) {
		t.Fatal("promoted although one webhook did not trust it")
	}
	c.sync(k)
	if c.assertServed(k).Equal(first) {
		t.Fatal("not promoted although all webhooks trust it")
	}
}

func TestPreviousCAsLeaveTheBundleWhenTheyExpire(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	for range 250 {
		c.sync(k)
		c.assertServed(k)
		if got := certificates(c.config().Webhooks[0].ClientConfig.CABundle); got > 3 {
			t.Fatalf("%d CAs in the caBundle at %s, want at most 3", got, c.clock.Now())
		}
		c.clock.Step(24 * time.Hour)
	}
}

func TestExpired(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	c.sync(k)
	first := c.assertServed(k)
	c.clock.Step(lifetime + time.Second) // everything was switched off for a long time
	if err := k.Ready(nil); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("ready with an expired certificate: %v", err)
	}
	c.sync(k)
	if c.assertServed(k).Equal(first) {
		t.Fatal("an expired certificate is served")
	}
}
