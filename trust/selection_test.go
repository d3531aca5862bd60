// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust"
)

// selecting selects namespaces by a label; by none it selects all.
func selecting(matching map[string]string) *v1alpha1.TrustConfigMaps {
	return &v1alpha1.TrustConfigMaps{NamespaceSelector: metav1.LabelSelector{MatchLabels: matching}}
}

// Where pods mount ClusterTrustBundles, some namespaces may have ConfigMaps as well, such as for programs that read them.
func TestConfigMapsInSomeNamespaces(t *testing.T) {
	const key, otherKey = "example.com_internal.pem", "example.com_other.pem"
	a := newCert(t, "A", nil)
	right := map[string]string{key: pemOf(a)}
	ours := func(data map[string]string, signers ...string) *corev1.ConfigMap {
		cm := configMap(data, signers...)
		cm.Labels = map[string]string{"app.kubernetes.io/managed-by": "certwright"}
		return cm
	}
	for name, c := range map[string]struct {
		in      *v1alpha1.TrustConfigMaps
		objects []client.Object
		writes  string
		want    map[string]string
	}{
		"none":                         {nil, nil, "", nil},
		"all":                          {selecting(nil), nil, "create shop/certwright-trust", right},
		"selected":                     {selecting(map[string]string{"team": "shop"}), nil, "create shop/certwright-trust", right},
		"others":                       {selecting(map[string]string{"team": "office"}), nil, "", nil},
		"tampered":                     {selecting(map[string]string{"team": "shop"}), []client.Object{ours(map[string]string{key: "planted"}, "internal")}, "update shop/certwright-trust", right},
		"no longer, and kept fresh":    {nil, []client.Object{ours(map[string]string{key: "former"}, "internal")}, "update shop/certwright-trust", right},
		"of a Signer that is gone":     {nil, []client.Object{ours(map[string]string{otherKey: pemOf(a)}, "other")}, "delete shop/certwright-trust", nil},
		"somebody's own, not selected": {nil, []client.Object{configMap(map[string]string{"x": "y"})}, "", map[string]string{"x": "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			shop, internal := namespaceObject("shop"), signerObject("internal", signerName)
			shop.Labels = map[string]string{"team": "shop"}
			internal.Spec.TrustBundle.ConfigMap = c.in
			cl := newClient(t, append(c.objects, shop, internal)...)
			p := trust.NewConfigMaps(cl, namespace, false, clocktesting.NewFakePassiveClock(now))
			if _, err := p.Publish(t.Context(), internal, bundle(t, a)); err != nil {
				t.Fatal(err)
			}
			for _, writes := range []string{c.writes, ""} { // the second time it is right
				reconcileShop(t, p)
				if got := cl.took(); got != writes {
					t.Errorf("writes %q, want %q", got, writes)
				}
			}
			if got := published(t, cl); !maps.Equal(got, c.want) {
				t.Errorf("published %v, want %v", got, c.want)
			}
		})
	}
}

// A namespace that is labelled later gets the bundle then, and one that a Signer comes to select.
func TestSelectionOfNamespacesChanges(t *testing.T) {
	shop, internal := namespaceObject("shop"), signerObject("internal", signerName)
	c := newClient(t, shop, internal)
	p := trust.NewConfigMaps(c, namespace, false, clocktesting.NewFakePassiveClock(now))
	b := bundle(t, newCert(t, "A", nil))
	for _, step := range []struct {
		what   string
		change func()
		writes string
	}{
		{"not labelled", func() { internal.Spec.TrustBundle.ConfigMap = selecting(map[string]string{"team": "shop"}) }, ""},
		{"labelled", func() {
			shop.Labels = map[string]string{"team": "shop"}
			if err := c.Update(t.Context(), shop); err != nil {
				t.Fatal(err)
			}
		}, "create shop/certwright-trust"},
		{"deleted, and no longer selected", func() {
			if err := c.Delete(t.Context(), configMap(nil)); err != nil {
				t.Fatal(err)
			}
			internal.Spec.TrustBundle.ConfigMap = nil
		}, ""},
		{"selected again", func() { internal.Spec.TrustBundle.ConfigMap = selecting(nil) }, "create shop/certwright-trust"},
	} {
		step.change()
		if _, err := p.Publish(t.Context(), internal, b); err != nil {
			t.Fatal(err)
		}
		c.took()
		reconcileShop(t, p)
		if writes := c.took(); writes != step.writes {
			t.Errorf("%s: writes %q, want %q", step.what, writes, step.writes)
		}
	}
	internal.Spec.TrustBundle.ConfigMap = selecting(map[string]string{"not a label": ""})
	if _, err := p.Publish(t.Context(), internal, b); err == nil || !strings.Contains(err.Error(), "spec.trustBundle.configMap.namespaceSelector") {
		t.Errorf("got %v, want the field named", err)
	}
}

// All bundles of a namespace have to fit into one ConfigMap.
func TestConfigMapsThatDoNotFit(t *testing.T) {
	half := trust.Bundle{PEM: strings.Repeat("x", 600<<10)}
	for name, c := range map[string]struct {
		all           bool
		first, second *v1alpha1.TrustConfigMaps
		fails         bool
	}{
		"in all namespaces":  {true, nil, nil, true},
		"in some":            {false, selecting(nil), selecting(nil), true},
		"only one, in some":  {false, nil, selecting(nil), false},
		"in none":            {false, nil, nil, false},
		"the second in none": {false, selecting(nil), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := trust.NewConfigMaps(newClient(t), namespace, c.all, clocktesting.NewFakePassiveClock(now))
			a, b := signerObject("internal", signerName), signerObject("other", otherName)
			a.Spec.TrustBundle.ConfigMap, b.Spec.TrustBundle.ConfigMap = c.first, c.second
			for range 2 {
				if _, err := p.Publish(t.Context(), a, half); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.Publish(t.Context(), b, half); (err != nil) != c.fails || err != nil && !strings.Contains(err.Error(), "at most 1048576 fit") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A way that cannot be gone holds up no other: in an emergency, that is what counts.
func TestBoth(t *testing.T) {
	for name, c := range map[string]struct{ first, second error }{
		"both":                 {nil, nil},
		"the first does not":   {errAway, nil},
		"the second does not":  {nil, errAway},
		"neither of them does": {errAway, errAway},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := &distributor{err: c.first}, &distributor{err: c.second}
			both := trust.Both{first, second}
			where, err := both.Publish(t.Context(), signerObject("internal", signerName), trust.Bundle{PEM: "text"})
			fails := c.first != nil || c.second != nil
			if (err != nil) != fails || (first.text == "text") != (c.first == nil) || (second.text == "text") != (c.second == nil) || where != "there" {
				t.Errorf("got %s, %v, published %q and %q", where, err, first.text, second.text)
			}
			if text, err := both.Current(t.Context(), signerName); text != first.text || (err != nil) != (c.first != nil) {
				t.Errorf("current is %q, %v", text, err)
			}
			if err := both.Withdraw(t.Context(), signerName); (err != nil) != fails || len(first.withdrawn)+len(second.withdrawn) != 2 {
				t.Errorf("got %v, withdrawn %q and %q", err, first.withdrawn, second.withdrawn)
			}
		})
	}
}
