// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// configuration is a webhook configuration of either kind, or none.
type configuration struct {
	kind     string
	object   client.Object
	webhooks []*admissionregistrationv1.WebhookClientConfig // parts of object
}

// trusts tells whether every webhook of the configuration trusts the generation.
func (c configuration) trusts(g *generation) bool {
	return !slices.ContainsFunc(c.webhooks, func(w *admissionregistrationv1.WebhookClientConfig) bool {
		return !bytes.Contains(w.CABundle, encodeCertificates(g.ca))
	})
}

// mutating reads the configuration that pods depend on.
func (k *Keeper) mutating(ctx context.Context) (configuration, error) {
	var object admissionregistrationv1.MutatingWebhookConfiguration
	c := configuration{kind: "MutatingWebhookConfiguration", object: &object}
	err := k.read(ctx, c)
	for i := range object.Webhooks {
		c.webhooks = append(c.webhooks, &object.Webhooks[i].ClientConfig)
	}
	return c, err
}

// validating reads the other configuration, which may be missing.
func (k *Keeper) validating(ctx context.Context) (configuration, error) {
	var object admissionregistrationv1.ValidatingWebhookConfiguration
	c := configuration{kind: "ValidatingWebhookConfiguration", object: &object}
	err := k.read(ctx, c)
	for i := range object.Webhooks {
		c.webhooks = append(c.webhooks, &object.Webhooks[i].ClientConfig)
	}
	return c, client.IgnoreNotFound(err)
}

func (k *Keeper) read(ctx context.Context, c configuration) error {
	if err := k.client.Get(ctx, types.NamespacedName{Name: k.opts.Configuration}, c.object); err != nil {
		return fmt.Errorf("reading %s %s: %w", c.kind, k.opts.Configuration, err)
	}
	return nil
}
