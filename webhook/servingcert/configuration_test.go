// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func validatingConfiguration() *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "hook", Labels: map[string]string{"kept": "yes"}},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{
			{Name: "v.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "hooks", Name: "hook"},
			}},
			{Name: "w.example.com"},
		},
	}
}

// Both configurations come to trust the certificate, and stay as they are otherwise. The validating one may come later.
func TestValidatingConfiguration(t *testing.T) {
	c := newCluster(t, mutatingConfiguration())
	k := c.keeper()
	c.sync(k)
	if err := c.Create(t.Context(), validatingConfiguration()); err != nil {
		t.Fatal(err)
	}
	if writes := c.sync(k); writes != 1 {
		t.Fatalf("%d writes, want 1: the configuration that is new", writes)
	}
	if got := len(c.bundles()); got != 4 {
		t.Fatalf("%d caBundles, want 4", got)
	}
	first := c.assertServed(k)
	var got admissionregistrationv1.ValidatingWebhookConfiguration
	if err := c.Get(t.Context(), types.NamespacedName{Name: "hook"}, &got); err != nil {
		t.Fatal(err)
	}
	if got.Labels["kept"] != "yes" || got.Webhooks[0].ClientConfig.Service.Name != "hook" {
		t.Error("more than the caBundle has changed")
	}

	c.clock.SetTime(start.Add(lifetime * 2 / 3))
	if writes := c.sync(k); writes != 3 {
		t.Fatalf("%d writes to announce the next certificate, want 3: the Secret and both configurations", writes)
	}
	if err := c.Get(t.Context(), types.NamespacedName{Name: "hook"}, &got); err != nil {
		t.Fatal(err)
	}
	got.Webhooks[1].ClientConfig.CABundle = nil
	if err := c.Update(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	c.clock.Step(overlap)
	c.sync(k)
	if !c.assertServed(k).Equal(first) {
		t.Fatal("promoted although one validating webhook did not trust it")
	}
	c.sync(k)
	if c.assertServed(k).Equal(first) {
		t.Fatal("not promoted although all webhooks trust it")
	}
}
