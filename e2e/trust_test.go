// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// The trust bundle of a Signer reaches the pods, and ca.crt follows it. What somebody else puts there does not stay.
func TestTrustBundleReachesPodsAndFollows(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	pod := s.trustReachesPods(o)
	b := s.trustBundle(o)
	want := s.publishedAnchors(b)
	s.must(b.tamper(s.ctx, s.newCA(nil).crt), "changing the bundle")
	s.bundleBecomes(b, want)
	s.podTrusts(pod, want)
}

// trustReachesPods tells how ca.crt in a pod, which it returns, follows the trust bundle of a Signer.
func (s *story) trustReachesPods(o *v1alpha1.Signer) *corev1.Pod {
	s.Helper()
	s.policy()
	b := s.trustBundle(o)
	first := s.publishedAnchors(b)
	pod := s.annotatedPod("app")
	s.podReady(pod)
	s.podTrusts(pod, first)

	s.caSecret(s.newCA(nil))
	s.change(o, func() {
		o.Spec.Backends = append(o.Spec.Backends, v1alpha1.Backend{Name: "second", CA: &v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: s.name}}})
	})
	s.signerIs(o, metav1.ConditionTrue, "Ready")
	var both []string
	s.until("the trust bundle to grow", soon, func(ctx context.Context) (err error) {
		if both, err = b.anchors(ctx); err == nil && len(both) != len(first)+1 {
			err = fmt.Errorf("it holds %q", both)
		}
		return err
	})
	if len(first) != 1 || !slices.Contains(both, first[0]) {
		s.Fatalf("the bundle had the anchors %q and has now %q, want one more", first, both)
	}
	s.podTrusts(pod, both)
	return pod
}

// The trust bundle of a Signer is restored when somebody changes or deletes it, and goes when the Signer goes.
func TestTrustBundleIsRestoredAndWithdrawn(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	b := s.trustBundle(o)
	want := s.publishedAnchors(b)
	s.must(b.tamper(s.ctx, s.newCA(nil).crt), "changing the bundle")
	s.bundleBecomes(b, want)
	s.must(admin.Delete(s.ctx, b.object()), "deleting the bundle")
	s.bundleBecomes(b, want)

	s.must(admin.Delete(s.ctx, o), "deleting the Signer")
	s.until("the trust bundle to be withdrawn", soon, func(ctx context.Context) error {
		got, err := b.anchors(ctx)
		if client.IgnoreNotFound(err) == nil && len(got) > 0 {
			return fmt.Errorf("it holds %q", got)
		}
		return client.IgnoreNotFound(err)
	})
}

// publishedAnchors returns the SHA-256 of each certificate in the bundle, once it is published.
func (s *story) publishedAnchors(b bundle) (anchors []string) {
	s.Helper()
	s.until("the trust bundle to be published", soon, func(ctx context.Context) (err error) {
		if anchors, err = b.anchors(ctx); err == nil && len(anchors) == 0 {
			err = fmt.Errorf("%T %s holds none", b.object(), b.object().GetName())
		}
		return err
	})
	return anchors
}

// bundleBecomes waits until the bundle holds these anchors again.
func (s *story) bundleBecomes(b bundle, want []string) {
	s.Helper()
	s.until("the trust bundle to be restored", soon, func(ctx context.Context) error {
		got, err := b.anchors(ctx)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("it holds %q", got)
		}
		return err
	})
}

// podTrusts waits until ca.crt in the pod holds these anchors. The kubelet looks once in a while, and whenever the pod changes:
// so the pod is changed again and again, as nobody knows when the kubelet has heard of the bundle.
func (s *story) podTrusts(pod *corev1.Pod, want []string) {
	s.Helper()
	var looked time.Time
	s.until("ca.crt of pod "+pod.Name+" to follow the trust bundle", starting, func(ctx context.Context) error {
		var l look
		if err := lastLine(ctx, pod, "app", &l); err != nil {
			return err
		}
		got := slices.Sorted(slices.Values(l.Anchors))
		if slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return nil
		}
		if time.Since(looked) > 2*time.Second {
			looked = time.Now()
			s.change(pod, func() { pod.Annotations["e2e.certwright.dev/look-again"] = looked.String() })
		}
		return fmt.Errorf("it holds %q, want %q", got, want)
	})
}

// A bundle holds what a Signer adds to it, follows its source, and is in the ConfigMap of the namespaces that are selected, too. A
// source that goes leaves what it gave.
func TestTrustBundleHoldsWhatTheSignerAdds(t *testing.T) {
	t.Parallel()
	s := tell(t)
	before, after, own := s.newCA(nil), s.newCA(nil), s.newCA(nil)
	s.caSecret(own)
	source := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: s.name}, Data: map[string]string{"ca.crt": string(before.crt)}}
	s.make(source)
	o := s.signer(s.bySecret, func(spec *v1alpha1.SignerSpec) {
		spec.TrustBundle.Additional = []v1alpha1.TrustSource{{ConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: s.name, Key: "ca.crt"}}}
		spec.TrustBundle.ConfigMap = &v1alpha1.TrustConfigMaps{
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.namespace}},
		}
	})
	bundles := []bundle{s.trustBundle(o), configMapBundle{
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.TrustConfigMap}}, v1alpha1.TrustConfigMapKey(s.signerName),
	}}
	hold := func(roots ...pair) {
		s.Helper()
		var want []string
		for _, root := range roots {
			anchors, err := anchorsOf(string(root.crt), nil)
			s.must(err, "reading a root")
			want = append(want, anchors...)
		}
		slices.Sort(want)
		for _, b := range bundles {
			s.until("the trust bundle to follow its sources", soon, func(ctx context.Context) error {
				got, err := b.anchors(ctx)
				if err == nil && !slices.Equal(slices.Sorted(slices.Values(got)), want) {
					err = fmt.Errorf("%T holds %q, want %q", b, got, want)
				}
				return err
			})
		}
	}
	hold(own, before)
	s.change(source, func() { source.Data["ca.crt"] = string(after.crt) })
	hold(own, after)
	s.must(admin.Delete(s.ctx, source), "deleting the source")
	s.signerIs(o, metav1.ConditionTrue, "Degraded")
	s.contains("the Signer's condition", o.Status.Conditions[0].Message, "cannot be read", s.name)
	hold(own, after)
}

// A new namespace that a Signer selects gets its ConfigMap within a second, and gets it back within a second. Other tests keep the
// machine busy meanwhile, so the quickest of some counts.
func TestTrustConfigMapsFollowWithinASecond(t *testing.T) {
	t.Parallel()
	s := tell(t)
	namespaces := make([]string, 10)
	for i := range namespaces {
		namespaces[i] = s.nextName()
	}
	s.signer(func(spec *v1alpha1.SignerSpec) {
		spec.TrustBundle.ConfigMap = &v1alpha1.TrustConfigMaps{NamespaceSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: namespaces},
		}}}
	})
	var made, restored []time.Duration
	for _, name := range namespaces {
		b := configMapBundle{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: v1alpha1.TrustConfigMap}}, v1alpha1.TrustConfigMapKey(s.signerName)}
		began := time.Now()
		s.makeNamespace(name)
		want := s.publishedAnchors(b)
		made, began = append(made, time.Since(began)), time.Now()
		s.must(b.tamper(s.ctx, s.newCA(nil).crt), "changing the bundle")
		s.bundleBecomes(b, want)
		restored = append(restored, time.Since(began))
	}
	s.figure("ConfigMaps of new namespaces are there after %v, and are restored after %v", made, restored)
	if slices.Min(made) > time.Second || slices.Min(restored) > time.Second {
		s.Errorf("it takes at least %s and %s, want a second at the most", slices.Min(made), slices.Min(restored))
	}
}

// Nobody but the signer says whom the pods of a namespace trust, and no one of those who may write ConfigMaps there.
func TestNobodyButTheSignerWritesTrustConfigMaps(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(func(spec *v1alpha1.SignerSpec) {
		spec.TrustBundle.ConfigMap = &v1alpha1.TrustConfigMaps{
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.namespace}},
		}
	})
	b := configMapBundle{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.TrustConfigMap}}, v1alpha1.TrustConfigMapKey(s.signerName)}
	s.publishedAnchors(b)
	s.makeServiceAccounts("app")
	s.grant(rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: "app"},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create", "update", "patch", "delete"}})
	app := s.serviceAccount(s.namespace, "app")
	s.until("the rights of app", soon, func(ctx context.Context) error {
		return app.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "other"}}, client.DryRunAll)
	})

	const policy = "certwright-trust-configmaps"
	change := func(change func(*corev1.ConfigMap)) error {
		changed := b.DeepCopy()
		change(changed)
		return app.Patch(s.ctx, changed, client.MergeFrom(b.ConfigMap), client.DryRunAll)
	}
	again := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: b.Name}, Data: b.Data}
	s.refusedBy(policy, app.Create(s.ctx, again, client.DryRunAll), "creating it", app.name, "spec.trustBundle.additional")
	for doing, c := range map[string]func(*corev1.ConfigMap){
		"having another CA trusted":  func(o *corev1.ConfigMap) { o.Data[b.key] = string(s.newCA(nil).crt) },
		"having one trusted besides": func(o *corev1.ConfigMap) { o.Data["other.crt"] = string(s.newCA(nil).crt) },
		"having nobody trusted":      func(o *corev1.ConfigMap) { o.Data = nil },
		"changing its labels":        func(o *corev1.ConfigMap) { o.Labels = map[string]string{"a": "b"} },
		"keeping it as it is":        func(o *corev1.ConfigMap) { o.Immutable = ptr.To(true) },
	} {
		s.refusedBy(policy, change(c), doing, app.name, "the signer writes it")
	}
	s.must(change(func(o *corev1.ConfigMap) { o.Annotations = map[string]string{"a": "b"} }), "writing an annotation")
	s.must(app.Delete(s.ctx, again, client.DryRunAll), "deleting it")
}
