// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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
	return &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}, Spec: v1alpha1.SignerSpec{SignerName: signerName}}
}

// ownedBy are the owners that make Kubernetes delete an object with the last of these Signers.
func ownedBy(names ...string) []metav1.OwnerReference {
	var owners []metav1.OwnerReference
	for _, name := range names {
		owners = append(owners, metav1.OwnerReference{APIVersion: "certwright.dev/v1alpha1", Kind: "Signer", Name: name, UID: types.UID("uid-" + name)})
	}
	return owners
}

// configMap is a ConfigMap of trust bundles that was published for the Signers of these names.
func configMap(data map[string]string, signers ...string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: v1alpha1.TrustConfigMap, UID: "a", OwnerReferences: ownedBy(signers...)}, Data: data}
}

func TestReconcile(t *testing.T) {
	a, b := newCert(t, "A", nil), newCert(t, "B", nil)
	const key, otherKey = "example.com_internal.pem", "example.com_other.pem"
	internal, other := signerObject("internal", signerName), signerObject("other", otherName)
	terminating := namespaceObject("shop")
	terminating.Status.Phase = corev1.NamespaceTerminating
	shop := namespaceObject("shop")
	immutable := configMap(map[string]string{key: "planted"}, "internal")
	immutable.Immutable = ptr.To(true)
	frozen := configMap(map[string]string{key: pemOf(a)}, "internal")
	frozen.Immutable = ptr.To(true)
	binary := configMap(map[string]string{key: pemOf(a)}, "internal")
	binary.BinaryData = map[string][]byte{"x": {1}}
	for name, c := range map[string]struct {
		objects   []client.Object
		published map[string]*x509.Certificate
		writes    string
		want      map[string]string
	}{
		"new namespace":               {[]client.Object{shop, internal}, map[string]*x509.Certificate{signerName: a}, "create shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"two Signers":                 {[]client.Object{shop, internal, other}, map[string]*x509.Certificate{signerName: a, otherName: b}, "create shop/certwright-trust", map[string]string{key: pemOf(a), otherKey: pemOf(b)}},
		"already right":               {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a)}, "internal")}, map[string]*x509.Certificate{signerName: a}, "", map[string]string{key: pemOf(a)}},
		"changed anchors":             {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(b)}, "internal")}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: emptied":           {[]client.Object{shop, internal, configMap(nil, "internal")}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: another key":       {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a), "x": "y"}, "internal")}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: binary data":       {[]client.Object{shop, internal, binary}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"tampered: made immutable":    {[]client.Object{shop, internal, immutable}, map[string]*x509.Certificate{signerName: a}, "delete shop/certwright-trust", nil},
		"immutable and right":         {[]client.Object{shop, internal, frozen}, map[string]*x509.Certificate{signerName: a}, "", map[string]string{key: pemOf(a)}},
		"restart: nothing known":      {[]client.Object{shop, internal, other, configMap(map[string]string{key: pemOf(a), otherKey: pemOf(b)}, "internal", "other")}, nil, "", map[string]string{key: pemOf(a), otherKey: pemOf(b)}},
		"restart: one known":          {[]client.Object{shop, internal, other, configMap(map[string]string{key: pemOf(a), otherKey: pemOf(b)}, "internal", "other")}, map[string]*x509.Certificate{signerName: b}, "update shop/certwright-trust", map[string]string{key: pemOf(b), otherKey: pemOf(b)}},
		"restart: one Signer is gone": {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a), otherKey: pemOf(b)}, "internal", "other")}, nil, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"all Signers gone":            {[]client.Object{shop, configMap(map[string]string{key: pemOf(a)}, "internal")}, nil, "delete shop/certwright-trust", nil},
		"owned by nobody":             {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a)})}, map[string]*x509.Certificate{signerName: a}, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"owned by another":            {[]client.Object{shop, internal, configMap(map[string]string{key: pemOf(a)}, "other")}, nil, "update shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"two Signers of a name":       {[]client.Object{shop, internal, signerObject("older", signerName)}, map[string]*x509.Certificate{signerName: a}, "create shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"published for a Signer gone": {[]client.Object{shop, internal}, map[string]*x509.Certificate{signerName: a, otherName: b}, "create shop/certwright-trust", map[string]string{key: pemOf(a)}},
		"nothing published yet":       {[]client.Object{shop, internal}, nil, "", nil},
		"no namespace":                {[]client.Object{internal}, map[string]*x509.Certificate{signerName: a}, "", nil},
		"terminating namespace":       {[]client.Object{terminating, internal}, map[string]*x509.Certificate{signerName: a}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newClient(t, c.objects...)
			p := trust.NewConfigMaps(cl, namespace, true, clocktesting.NewFakePassiveClock(now))
			for name, cert := range c.published {
				if where, err := p.Publish(t.Context(), signerObject("internal", name), bundle(t, cert)); err != nil || where != "configmap/certwright-trust" {
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
			if want := wantedOwners(t, cl); !equality.Semantic.DeepEqual(owners(t, cl), want) {
				t.Errorf("owned by %v, want %v", owners(t, cl), want)
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

// wantedOwners are the Signers whose bundles are published: the ConfigMap has to go with the last of them.
func wantedOwners(t *testing.T, c client.Client) []metav1.OwnerReference {
	t.Helper()
	var signers v1alpha1.SignerList
	if err := c.List(t.Context(), &signers); err != nil {
		t.Fatal(err)
	}
	data := published(t, c)
	var names []string
	for _, s := range signers.Items {
		if data[v1alpha1.TrustConfigMapKey(s.Spec.SignerName)] != "" {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return ownedBy(names...)
}

func owners(t *testing.T, c client.Client) []metav1.OwnerReference {
	t.Helper()
	var cm corev1.ConfigMap
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: v1alpha1.TrustConfigMap}, &cm); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return cm.OwnerReferences
}

func TestPublishAndWithdrawConfigMaps(t *testing.T) {
	a := newCert(t, "A", nil)
	internal := signerObject("internal", signerName)
	c := newClient(t, namespaceObject("shop"), internal)
	p := trust.NewConfigMaps(c, namespace, true, clocktesting.NewFakePassiveClock(now))
	if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, a)); err != nil {
		t.Fatal(err)
	}
	reconcileShop(t, p)
	c.took()
	reconcileShop(t, p)
	if writes := c.took(); writes != "" {
		t.Errorf("writes %q", writes)
	}
	if err := p.Withdraw(t.Context(), signerName); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), internal); err != nil {
		t.Fatal(err)
	}
	reconcileShop(t, p)
	if got := published(t, c); got != nil {
		t.Errorf("after Withdraw: %v", got)
	}
}

func TestReconcileTrouble(t *testing.T) {
	c := newClient(t, namespaceObject("shop"), signerObject("internal", signerName))
	p := trust.NewConfigMaps(c, namespace, true, clocktesting.NewFakePassiveClock(now))
	if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, newCert(t, "A", nil))); err != nil {
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

// A team that keeps the ConfigMap of its namespace otherwise, such as by GitOps, costs one write a minute in the end.
func TestAnotherWriterOfConfigMaps(t *testing.T) {
	a, planted := newCert(t, "A", nil), pemOf(newCert(t, "Planted", nil))
	clk := clocktesting.NewFakePassiveClock(now)
	c := newClient(t, namespaceObject("shop"), namespaceObject("office"), signerObject("internal", signerName))
	p := trust.NewConfigMaps(c, namespace, true, clk)
	publish := func(cert *x509.Certificate) {
		t.Helper()
		if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, cert)); err != nil {
			t.Fatal(err)
		}
	}
	publish(a)
	reconcileShop(t, p)
	var waits []time.Duration
	for len(waits) < 12 {
		cm := corev1.ConfigMap{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: v1alpha1.TrustConfigMap}, &cm); err != nil {
			t.Fatal(err)
		}
		cm.Data = map[string]string{"example.com_internal.pem": planted}
		if err := c.Update(t.Context(), &cm); err != nil {
			t.Fatal(err)
		}
		c.took()
		result, err := p.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "shop"}})
		if err != nil || (c.took() == "") != (result.RequeueAfter > 0) {
			t.Fatalf("got %v, %v", result, err)
		}
		waits = append(waits, result.RequeueAfter)
		clk.SetTime(clk.Now().Add(result.RequeueAfter))
	}
	if waits[0] != 0 || slices.Max(waits) > time.Minute || waits[len(waits)-1] <= waits[3] {
		t.Errorf("it waited %v: want no wait at first, and longer ones in the end", waits)
	}
	b := newCert(t, "B", nil)
	publish(b)
	reconcileShop(t, p)
	if got := published(t, c)["example.com_internal.pem"]; got != pemOf(b) {
		t.Error("new anchors wait for the other writer")
	}
}

// What a namespace's administrator put into its ConfigMap is nobody's trust anchor elsewhere.
func TestCurrentIsReadAtHome(t *testing.T) {
	a, b := newCert(t, "A", nil), newCert(t, "B", nil)
	key := v1alpha1.TrustConfigMapKey(signerName)
	home := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.TrustConfigMap}, Data: map[string]string{key: pemOf(a)}}
	shop := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: v1alpha1.TrustConfigMap}, Data: map[string]string{key: pemOf(a, b)}}
	for name, c := range map[string]struct {
		objects []client.Object
		want    string
	}{"both": {[]client.Object{home, shop}, pemOf(a)}, "not at home": {[]client.Object{shop}, ""}} {
		p := trust.NewConfigMaps(newClient(t, c.objects...), namespace, true, clocktesting.NewFakePassiveClock(now))
		if got, err := p.Current(t.Context(), signerName); err != nil || got != c.want {
			t.Errorf("%s: current is %q, error %v, want %q", name, got, err, c.want)
		}
	}
}
