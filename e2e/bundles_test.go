// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// bundle is a trust bundle of a Signer as the pods of the story get it.
type bundle interface {
	// anchors returns the SHA-256 of each certificate in it.
	anchors(ctx context.Context) ([]string, error)
	// text returns the certificates in PEM.
	text(ctx context.Context) (string, error)
	// tamper puts other certificates in their place.
	tamper(ctx context.Context, pem []byte) error
	// object is what holds it.
	object() client.Object
}

// inBundle and inConfigMap begin what a Signer's status says about the place of its bundle.
const (
	inBundle    = "clustertrustbundle/"
	inConfigMap = "configmap/"
)

// trustBundle returns the bundle that the Signer's status names.
func (s *story) trustBundle(o *v1alpha1.Signer) bundle {
	s.Helper()
	name := v1alpha1.ClusterTrustBundleName(s.signerName)
	switch o.Status.TrustBundle {
	case inBundle + name:
		b, err := newTrustBundle()
		s.must(err, "looking for the kind ClusterTrustBundle")
		b.SetName(name)
		return clusterBundle{b}
	case inConfigMap + v1alpha1.TrustConfigMap:
		return configMapBundle{
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.TrustConfigMap}},
			v1alpha1.TrustConfigMapKey(s.signerName),
		}
	}
	s.Fatalf("the Signer's status names the trust bundle %q, want %q or %q", o.Status.TrustBundle, inBundle+name, inConfigMap+v1alpha1.TrustConfigMap)
	return nil
}

// clusterBundle is a ClusterTrustBundle.
type clusterBundle struct{ *unstructured.Unstructured }

func (b clusterBundle) object() client.Object { return b.Unstructured }

func (b clusterBundle) text(ctx context.Context) (string, error) {
	if err := admin.Get(ctx, client.ObjectKeyFromObject(b), b.Unstructured); err != nil {
		return "", err
	}
	text, _, err := unstructured.NestedString(b.Object, "spec", "trustBundle")
	return text, err
}

func (b clusterBundle) anchors(ctx context.Context) ([]string, error) { return anchorsOf(b.text(ctx)) }

func (b clusterBundle) tamper(ctx context.Context, pem []byte) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if _, err := b.text(ctx); err != nil {
			return err
		}
		if err := unstructured.SetNestedField(b.Object, string(pem), "spec", "trustBundle"); err != nil {
			return err
		}
		return admin.Update(ctx, b.Unstructured)
	})
}

// configMapBundle is a key of the ConfigMap in the story's namespace.
type configMapBundle struct {
	*corev1.ConfigMap
	key string
}

func (b configMapBundle) object() client.Object { return b.ConfigMap }

func (b configMapBundle) text(ctx context.Context) (string, error) {
	err := admin.Get(ctx, client.ObjectKeyFromObject(b), b.ConfigMap)
	return b.Data[b.key], err
}

func (b configMapBundle) anchors(ctx context.Context) ([]string, error) {
	return anchorsOf(b.text(ctx))
}

func (b configMapBundle) tamper(ctx context.Context, pem []byte) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if _, err := b.text(ctx); err != nil {
			return err
		}
		b.Data[b.key] = string(pem)
		return admin.Update(ctx, b.ConfigMap)
	})
}

func anchorsOf(text string, err error) (anchors []string, _ error) {
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		anchors = append(anchors, hex.EncodeToString(sum[:]))
	}
	return anchors, err
}

// chainsTo checks that what was issued for the request leads to the Signer's trust bundle.
func (s *story) chainsTo(o *v1alpha1.Signer, request *certificatesv1.CertificateSigningRequest) {
	s.Helper()
	s.refresh(o)
	text, err := s.trustBundle(o).text(s.ctx)
	s.must(err, "reading the trust bundle of Signer %s", o.Name)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(text)) {
		s.Fatalf("the trust bundle of Signer %s is empty", o.Name)
	}
	between.AppendCertsFromPEM(request.Status.Certificate)
	leaf, err := leafOf(request)
	s.must(err, "reading the certificate of request %s", request.Name)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	s.must(err, "verifying the certificate of request %s", request.Name)
}
