// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// The trust bundle of a Signer reaches the pods, and ca.crt follows it.
func TestTrustBundleReachesPodsAndFollows(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	s.policy()
	bundle := s.trustBundle(o)
	first := s.publishedAnchors(bundle)
	pod := s.annotatedPod("app")
	s.podReady(pod)
	s.podTrusts(pod, first)

	s.caSecret(s.newCA(nil))
	s.change(o, func() {
		o.Spec.Backends = append(o.Spec.Backends, v1alpha1.Backend{Name: "second", CA: &v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: s.name}}})
	})
	s.signerIs(o, metav1.ConditionTrue, "Ready")
	both := s.publishedAnchors(bundle)
	if len(first) != 1 || len(both) != 2 || !slices.Contains(both, first[0]) {
		s.Fatalf("the bundle had the anchors %q and has now %q, want one more", first, both)
	}
	// The kubelet looks at a pod once in a while, and at once when it changes.
	s.change(pod, func() { pod.Annotations["e2e"] = "look again" })
	s.podTrusts(pod, both)
}

// The trust bundle of a Signer is restored when somebody changes or deletes it, and goes when the Signer goes.
func TestTrustBundleIsRestoredAndWithdrawn(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	bundle := s.trustBundle(o)
	want := s.publishedAnchors(bundle)
	s.change(bundle, func() {
		s.must(unstructured.SetNestedField(bundle.Object, string(s.newCA(nil).crt), "spec", "trustBundle"), "changing the bundle")
	})
	s.bundleBecomes(bundle, want)
	s.must(admin.Delete(s.ctx, bundle), "deleting the bundle")
	s.bundleBecomes(bundle, want)

	s.must(admin.Delete(s.ctx, o), "deleting the Signer")
	s.until("the trust bundle to be withdrawn", soon, func(ctx context.Context) error {
		return bundleIsGone(ctx, s.signerName)
	})
}

// trustBundle returns the ClusterTrustBundle that the Signer's status names, in the version that the cluster prefers.
func (s *story) trustBundle(o *v1alpha1.Signer) *unstructured.Unstructured {
	s.Helper()
	bundle, err := newTrustBundle()
	s.must(err, "looking for the kind ClusterTrustBundle, which this test needs")
	bundle.SetName(strings.TrimPrefix(o.Status.TrustBundle, "clustertrustbundle/"))
	if want := v1alpha1.ClusterTrustBundleName(s.signerName); bundle.GetName() != want {
		s.Fatalf("the Signer's status names the trust bundle %q, want %q", bundle.GetName(), want)
	}
	return bundle
}

// publishedAnchors returns the SHA-256 of each certificate in the bundle.
func (s *story) publishedAnchors(bundle *unstructured.Unstructured) []string {
	s.Helper()
	s.refresh(bundle)
	return anchorsOf(bundle)
}

func anchorsOf(bundle *unstructured.Unstructured) []string {
	var anchors []string
	text, _, _ := unstructured.NestedString(bundle.Object, "spec", "trustBundle")
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		anchors = append(anchors, hex.EncodeToString(sum[:]))
	}
	return anchors
}

// bundleBecomes waits until the bundle holds these anchors again.
func (s *story) bundleBecomes(bundle *unstructured.Unstructured, want []string) {
	s.Helper()
	s.until("the trust bundle to be restored", starting, func(ctx context.Context) error {
		err := admin.Get(ctx, client.ObjectKeyFromObject(bundle), bundle)
		if apierrors.IsNotFound(err) || err != nil {
			return err
		}
		if got := anchorsOf(bundle); !slices.Equal(got, want) {
			return fmt.Errorf("it holds %q", got)
		}
		return nil
	})
}

// podTrusts waits until ca.crt in the pod holds these anchors.
func (s *story) podTrusts(pod *corev1.Pod, want []string) {
	s.Helper()
	s.until("ca.crt of pod "+pod.Name+" to follow the trust bundle", 2*starting, func(ctx context.Context) error {
		var l look
		if err := lastLine(ctx, pod, "app", &l); err != nil {
			return err
		}
		if got := slices.Sorted(slices.Values(l.Anchors)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return fmt.Errorf("it holds %q, want %q", got, want)
		}
		return nil
	})
}
