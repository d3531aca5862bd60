// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// Cluster inspects what is in a cluster, with the rights of whoever reads.
type Cluster struct {
	Reader client.Reader
	Clock  clock.PassiveClock
}

// CSR reports on the CertificateSigningRequest of this name.
func (c Cluster) CSR(ctx context.Context, name string) (Report, error) {
	var object certificatesv1.CertificateSigningRequest
	if err := c.Reader.Get(ctx, client.ObjectKey{Name: name}, &object); err != nil {
		return Report{}, fmt.Errorf("reading the certificatesigningrequest: %w", err)
	}
	return c.request(ctx, &object)
}

func (c Cluster) request(ctx context.Context, object *certificatesv1.CertificateSigningRequest) (Report, error) {
	var anchors *Anchors
	var why error
	if len(object.Status.Certificate) > 0 {
		namespace, _, ok := csr.Requester{Username: object.Spec.Username}.ServiceAccount()
		if !ok {
			namespace = metav1.NamespaceDefault
		}
		anchors, why = c.anchors(ctx, object.Spec.SignerName, namespace)
	}
	r := CSR(object, anchors, c.Clock.Now())
	if why != nil {
		r.find(Warning, why.Error())
	}
	return r, nil
}

// Secret reports on the key pair in a Secret.
func (c Cluster) Secret(ctx context.Context, namespace, name string) (Report, error) {
	var secret corev1.Secret
	if err := c.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret); err != nil {
		return Report{}, fmt.Errorf("reading the secret: %w", err)
	}
	return Secret(&secret, c.Clock.Now())
}

// anchors finds the trust bundle that Certwright publishes for a signerName: the ClusterTrustBundle, else the ConfigMap of
// the namespace. There is no bundle where nobody has published one; the error says why it could not be read.
func (c Cluster) anchors(ctx context.Context, signerName, namespace string) (*Anchors, error) {
	name := v1alpha1.ClusterTrustBundleName(signerName)
	text, err := c.clusterTrustBundle(ctx, name)
	source := "clustertrustbundle " + name
	if err == nil && text == "" {
		var shared corev1.ConfigMap
		err = absent(c.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.TrustConfigMap}, &shared))
		key := v1alpha1.TrustConfigMapKey(signerName)
		text, source = shared.Data[key], fmt.Sprintf("configmap %s/%s, key %s", namespace, v1alpha1.TrustConfigMap, key)
	}
	if err != nil {
		return nil, fmt.Errorf("the trust bundle of %s cannot be read: %w", signerName, err)
	}
	if text == "" {
		return nil, nil
	}
	return ParseAnchors(source, []byte(text))
}

// clusterTrustBundle returns the bundle's text in whatever version the API server has the kind; empty if there is none.
func (c Cluster) clusterTrustBundle(ctx context.Context, name string) (string, error) {
	var v1 certificatesv1.ClusterTrustBundle
	err := c.Reader.Get(ctx, client.ObjectKey{Name: name}, &v1)
	if err == nil {
		return v1.Spec.TrustBundle, nil
	}
	if !meta.IsNoMatchError(err) {
		return "", absent(err)
	}
	var beta certificatesv1beta1.ClusterTrustBundle
	err = c.Reader.Get(ctx, client.ObjectKey{Name: name}, &beta)
	return beta.Spec.TrustBundle, absent(err)
}

// absent passes over errors that say that there is no such thing.
func absent(err error) error {
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	return err
}
