// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"crypto/x509"
	"errors"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust"
)

const otherName = "example.com/other"

func namespaceObject(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func signerObject(name, signerName string) *v1alpha1.Signer {
	return &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.SignerSpec{SignerName: signerName}}
}

func configMap(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: v1alpha1.TrustConfigMap, UID: "a"}, Data: data}
}

func TestReconcile(t *testing.T) {
	a, b := newCert(t, "A", nil), newCert(t, "B", nil)
	const key, otherKey = "example.com_internal.pem", "example.com_other.pem"
	internal, other := signerObject("internal", signerName), signerObject("other", otherName)
	terminating := namespaceObject("shop")
	terminating.Status.Phase = corev1.NamespaceTerminating
	shop := namespaceObject("shop")
	immutable := configMap(map[string]string{key: "planted"})
	immutable.Immutable = ptr.To(true)
	frozen := configMap(map[string]string{key: pemOf(a)})
	frozen.Immutable = ptr.To(true)
	binary := configMap(map[string]string{key: pemOf(a)})
	binary.BinaryData = map[string][]byte{"x": {1}}
	for name, c := range map[string]struct {
		objects   []client.Object
		published map[string]*x509.Certificate
		writes    string
		want      map[string]string
	}{
		"new namespace":               {[]client.Object{shop, internal}, map[string]*x509.Certificate{signerName: a}, "create shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"two Signers":                 {[]client.Object{shop, internal, other}, map[string]*x509.Certificate{signerName: a, otherName: b}, "create shop/certwright-trust", map[string]string{key: pemOf(a), otherKey: pemOf(b)}},
		"already right":               {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a)})}, map[string]*x509.Certificate{signerName: a}, "", map[string]string{key: pemOf(a)}},
		"changed anchors":             {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(b)})}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: emptied":           {[]client.Object{shop, internal, configMap(nil)}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: another key":       {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a), "x": "y"})}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: binary data":       {[]client.Object{shop, internal, binary}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: made immutable":    {[]client.Object{shop, internal, immutable}, map[string]*x509.Certificate{signerName: a}, "delete shop/certwright-trust", nil},
		"immutable and right":         {[]client.Object{shop, internal, frozen}, map[string]*x509.Certificate{signerName: a}, "", map[string]string{key: pemOf(a)}},
		"restart: nothing known":      {[]client.Object{shop, internal, other, configMap(map[string]string{key: pemOf(a), otherKey: pemOf(b)})}, nil, "", map[string]string{key: pemOf(a), otherKey: pemOf(b)}},
		"restart: one known":          {[]client.Object{shop, internal, other, configMap(map[string]string{key: pemOf(a), otherKey: pemOf(b)})}, map[string]*x509.Certificate{signerName: b}, "update shop/certwright-trust", map[string]string{key: pemOf(b), otherKey: pemOf(b)}},
		"restart: one Signer is gone": {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a), otherKey: pemOf(b)})}, nil, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"all Signers gone":            {[]client.Object{shop, configMap(map[string]string{key: pemOf(a)})}, nil, "delete shop/certwright-trust", nil},
		"nothing published yet":       {[]client.Object{shop, internal}, nil, "", nil},
		"no namespace":                {[]client.Object{internal}, map[string]*x509.Certificate{signerName: a}, "", nil},
		"terminating namespace":       {[]client.Object{terminating, internal}, map[string]*x509.Certificate{signerName: a}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newClient(t, c.objects...)
			p := trust.NewConfigMaps(cl, clocktesting.NewFakePassiveClock(now))
			for name, cert := range c.published {
				if where, err := p.Publish(t.Context(), name, []*x509.Certificate{cert}); err != nil || where != "configmap/certwright-trust" {
					t.Fatalf("Publish: %s, %v", where, err)
				}
			}
			reconcileShop(t, p)
			if writes := cl.took(); writes != c.writes {
				t.Errorf("writes %q, want %q", writes, c.writes)
			}
			if got := published(t, cl); !maps.Equal(got, c.want) {
				t.Errorf("published %v, want %v", got, c.want)
			}
			// However it came about, another look finds it right.
			reconcileShop(t, p)
			if writes := cl.took(); writes != "" && c.writes != "delete shop/certwright-trust" {
				t.Errorf("the second time it writes %q", writes)
			}
		})
	}
}

func reconcileShop(t *testing.T, p *trust.ConfigMaps) {
	t.Helper()
	if _, err := p.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "shop"}}); err != nil {
		t.Fatalf("Reconcile: %v", err)
	}
}

func published(t *testing.T, c client.Client) map[string]string {
	t.Helper()
	var cm corev1.ConfigMap
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: v1alpha1.TrustConfigMap}, &cm); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	return cm.Data
}

func TestPublishAndWithdrawConfigMaps(t *testing.T) {
	a := newCert(t, "A", nil)
	internal := signerObject("internal", signerName)
	c := newClient(t, namespaceObject("shop"), internal)
	p := trust.NewConfigMaps(c, clocktesting.NewFakePassiveClock(now))
	if _, err := p.Publish(t.Context(), signerName, []*x509.Certificate{a}); err != nil {
		t.Fatal(err)
	}
	reconcileShop(t, p)
	for what, anchors := range map[string][]*x509.Certificate{"nothing": nil, "expired": {newCert(t, "Old", expired)}} {
		if _, err := p.Publish(t.Context(), signerName, anchors); err == nil {
			t.Errorf("%s was published", what)
		}
	}
	// The Signer is gone, but nobody withdrew its bundle yet.
	if err := c.Delete(t.Context(), internal); err != nil {
		t.Fatal(err)
	}
	c.took()
	reconcileShop(t, p)
	if writes := c.took(); writes != "" {
		t.Errorf("writes %q", writes)
	}
	if err := p.Withdraw(t.Context(), signerName); err != nil {
		t.Fatal(err)
	}
	reconcileShop(t, p)
	if got := published(t, c); got != nil {
		t.Errorf("after Withdraw: %v", got)
	}
}

func TestReconcileTrouble(t *testing.T) {
	c := newClient(t, namespaceObject("shop"), signerObject("internal", signerName))
	p := trust.NewConfigMaps(c, clocktesting.NewFakePassiveClock(now))
	if _, err := p.Publish(t.Context(), signerName, []*x509.Certificate{newCert(t, "A", nil)}); err != nil {
		t.Fatal(err)
	}
	request := reconcile.Request{NamespacedName: types.NamespacedName{Name: "shop"}}
	c.fail = errors.New("etcd is away")
	if _, err := p.Reconcile(t.Context(), request); !errors.Is(err, c.fail) {
		t.Errorf("got %v, want the error of the write", err)
	}
	for what, err := range map[string]error{
		"a namespace that is going away": &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonForbidden, Details: &metav1.StatusDetails{
			Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}},
		}}},
		"a cache that lags": apierrors.NewAlreadyExists(corev1.Resource("configmaps"), v1alpha1.TrustConfigMap),
	} {
		c.fail = err
		if _, err := p.Reconcile(t.Context(), request); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
