// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// told are the stories of this run.
var told struct {
	sync.Mutex
	stories []*story
}

// takeAway waits until the namespaces of all stories are gone, and then deletes what pods and the signer made on their
// behalf until then: requests, and the Secrets of CAs and ACME accounts, which outlive their Signer on purpose.
func takeAway(ctx context.Context) error {
	told.Lock()
	defer told.Unlock()
	var problems []error
	for _, s := range told.stories {
		err := poll(ctx, 2*time.Minute, func(ctx context.Context) error {
			return errors.Join(
				isGone(ctx, &corev1.Namespace{}, s.namespace),
				isGone(ctx, &v1alpha1.Signer{}, s.name),
				bundleIsGone(ctx, s.signerName),
			)
		})
		if err != nil {
			problems = append(problems, fmt.Errorf("story %s: %w", s.name, err))
		}
		err = admin.DeleteAllOf(ctx, &certificatesv1.CertificateSigningRequest{}, client.MatchingFields{"spec.signerName": s.signerName})
		problems = append(problems, err)
	}
	// An order is put away, and so are its routes, when its certificate is there or it failed for good.
	problems = append(problems, poll(ctx, time.Minute, ordersAreGone))
	var secrets corev1.SecretList
	problems = append(problems, admin.List(ctx, &secrets, client.InNamespace(systemNamespace)))
	for i := range secrets.Items {
		if name := secrets.Items[i].Name; strings.HasPrefix(name, "certwright-ca-e2e-") || strings.HasPrefix(name, "certwright-ca--e2e-") || strings.HasPrefix(name, "certwright-acme-e2e-") {
			problems = append(problems, client.IgnoreNotFound(admin.Delete(ctx, &secrets.Items[i])))
		}
	}
	return errors.Join(problems...)
}

// ordersAreGone complains as long as the signer keeps an order of ACME, or a route of a challenge.
func ordersAreGone(ctx context.Context) error {
	var secrets corev1.SecretList
	var ingresses networkingv1.IngressList
	if err := errors.Join(admin.List(ctx, &secrets, client.InNamespace(systemNamespace)), admin.List(ctx, &ingresses, client.InNamespace(systemNamespace))); err != nil {
		return err
	}
	for _, o := range secrets.Items {
		if strings.HasPrefix(o.Name, "certwright-acme-order-") {
			return fmt.Errorf("Secret %s is still there", o.Name)
		}
	}
	for _, o := range ingresses.Items {
		return fmt.Errorf("Ingress %s is still there", o.Name)
	}
	return nil
}

// isGone complains as long as the object is there.
func isGone(ctx context.Context, o client.Object, name string) error {
	err := admin.Get(ctx, client.ObjectKey{Name: name}, o)
	if err == nil {
		return fmt.Errorf("%T %s is still there", o, name)
	}
	return client.IgnoreNotFound(err)
}

// bundleIsGone complains as long as the trust bundle of the signerName is there.
func bundleIsGone(ctx context.Context, signerName string) error {
	bundle, err := newTrustBundle()
	if meta.IsNoMatchError(err) {
		return nil // such a cluster has none
	}
	if err != nil {
		return err
	}
	return isGone(ctx, bundle, v1alpha1.ClusterTrustBundleName(signerName))
}

// newTrustBundle returns an empty ClusterTrustBundle in the version that the cluster prefers.
func newTrustBundle() (*unstructured.Unstructured, error) {
	mapping, err := admin.RESTMapper().RESTMapping(schema.GroupKind{Group: "certificates.k8s.io", Kind: "ClusterTrustBundle"})
	if err != nil {
		return nil, err
	}
	bundle := &unstructured.Unstructured{}
	bundle.SetGroupVersionKind(mapping.GroupVersionKind)
	return bundle, nil
}
