// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust"
	"github.com/certwright/certwright/trust/source"
)

// A namespace that does not get a new root is cut off when the old one goes. Who keeps the Signer has to hear of it before.
func TestNamespacesThatLackTheBundleAreNamed(t *testing.T) {
	objects := []client.Object{signerObject("internal", signerName), signerObject("other", otherName)}
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		objects = append(objects, namespaceObject(name))
	}
	c := newClient(t, objects...)
	p := trust.NewConfigMaps(c, namespace, true, clocktesting.NewFakePassiveClock(now))
	if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, newCert(t, "A", nil))); err != nil {
		t.Fatal(err)
	}
	look := func(namespace string) error {
		_, err := p.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}})
		return err
	}
	wantWarning := func(what, want string) {
		t.Helper()
		warnings := p.Warnings(t.Context(), signerName)
		if want == "" && len(warnings) > 0 || want != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], want)) {
			t.Errorf("%s: warnings %q, want %q", what, warnings, want)
		}
		if others := p.Warnings(t.Context(), otherName); len(others) > 0 {
			t.Errorf("%s: the other Signer is warned of %q", what, others)
		}
	}
	wantWarning("at first", "")
	c.fail = errors.New("exceeded quota:\n" + strings.Repeat("x", 1000))
	for i, name := range names {
		if err := look(name); !errors.Is(err, c.fail) {
			t.Fatal(err)
		}
		wantWarning(name, fmt.Sprintf("%d namespaces do not have the current trust bundle (%s", i+1, strings.Join(names[:min(i+1, 3)], ", ")))
	}
	if w := p.Warnings(t.Context(), signerName)[0]; !strings.Contains(w, "(a, b, c and others): ConfigMap a/certwright-trust: exceeded quota: xxx") || len(w) > 600 {
		t.Errorf("the warning is %q", w)
	}
	c.fail = nil
	for i, name := range names[:2] {
		if err := errors.Join(look(name), look(name)); err != nil { // written, and seen to be there
			t.Fatal(err)
		}
		wantWarning(name, fmt.Sprintf("%d namespaces do not have", 3-i))
	}
	for _, name := range names[2:] {
		if err := errors.Join(c.Delete(t.Context(), namespaceObject(name)), look(name)); err != nil {
			t.Fatal(err)
		}
	}
	wantWarning("after all", "")
}

func TestNamespacesThatSomebodyElseChangesAreNamed(t *testing.T) {
	planted := pemOf(newCert(t, "Planted", nil))
	c := newClient(t, namespaceObject("shop"), signerObject("internal", signerName))
	p := trust.NewConfigMaps(c, namespace, true, clocktesting.NewFakePassiveClock(now))
	if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, newCert(t, "A", nil))); err != nil {
		t.Fatal(err)
	}
	reconcileShop(t, p)
	for range 3 {
		m := shopConfigMap(t, c)
		m.Data[pemKey] = planted
		if err := c.Update(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		reconcileShop(t, p)
	}
	if w := p.Warnings(t.Context(), signerName); len(w) != 1 || !strings.Contains(w[0], "somebody else changes it again and again") {
		t.Errorf("warnings %q", w)
	}
}

// Who replaces a root waits until everybody has the bundle that was published last.
func TestBehind(t *testing.T) {
	old, next := newCert(t, "Old", nil), newCert(t, "Next", nil)
	internal := withFormats(signerObject("internal", signerName), "JKS")
	going := namespaceObject("going")
	going.Status.Phase = corev1.NamespaceTerminating
	for name, c := range map[string]struct {
		all  bool
		with *v1alpha1.TrustConfigMaps
		want []string // when the new bundle is published
	}{
		"all namespaces":   {true, nil, []string{"namespace office", "namespace shop"}},
		"with truststores": {true, internal.Spec.TrustBundle.ConfigMap, []string{"namespace office", "namespace shop"}},
		"some":             {false, selecting(map[string]string{"kubernetes.io/metadata.name": "shop"}), []string{"namespace shop"}},
		"none":             {false, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := signerObject("internal", signerName)
			s.Spec.TrustBundle.ConfigMap = c.with
			shop := namespaceObject("shop")
			shop.Labels = map[string]string{"kubernetes.io/metadata.name": "shop"}
			cl := newClient(t, s, shop, namespaceObject("office"), going)
			p := trust.NewConfigMaps(cl, namespace, c.all, clocktesting.NewFakePassiveClock(now))
			want := func(want []string) {
				t.Helper()
				if got, err := p.Behind(t.Context(), signerName); err != nil || !slices.Equal(got, want) {
					t.Errorf("behind are %q, %v, want %q", got, err, want)
				}
			}
			if got, err := p.Behind(t.Context(), signerName); err == nil {
				t.Errorf("nothing is published, and behind are %q", got)
			}
			for _, b := range []trust.Bundle{bundle(t, old), bundle(t, old, next), bundle(t, next)} {
				if _, err := p.Publish(t.Context(), s, b); err != nil {
					t.Fatal(err)
				}
				want(c.want)
				for i, name := range []string{"office", "shop"} {
					if _, err := p.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}); err != nil {
						t.Fatal(err)
					}
					want(slices.DeleteFunc(slices.Clone(c.want), func(n string) bool { return i == 1 || n == "namespace office" }))
				}
			}
		})
	}
}

func TestBehindOfClusterTrustBundles(t *testing.T) {
	s := signerObject("internal", signerName)
	c := newClient(t, s)
	p, err := trust.NewClusterTrustBundles(c, c, "v1", clocktesting.NewFakePassiveClock(now))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Behind(t.Context(), signerName); err == nil {
		t.Errorf("nothing is published, and behind is %q", got)
	}
	if _, err := p.Publish(t.Context(), s, bundle(t, newCert(t, "A", nil))); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Behind(t.Context(), signerName); err != nil || len(got) > 0 {
		t.Errorf("behind is %q, %v", got, err)
	}
	if err := c.Delete(t.Context(), &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClusterTrustBundleName(signerName)}}); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Behind(t.Context(), signerName); err != nil || !slices.Equal(got, []string{"clustertrustbundle/example.com:internal:certwright"}) {
		t.Errorf("behind is %q, %v", got, err)
	}
	c.fail = errAway
	if _, err := p.Publish(t.Context(), s, bundle(t, newCert(t, "B", nil))); !errors.Is(err, errAway) {
		t.Errorf("got %v", err)
	}
	if got, err := p.Behind(t.Context(), signerName); err != nil || len(got) != 1 {
		t.Errorf("a bundle that could not be written is not behind: %q, %v", got, err)
	}
}

func TestBehindInTwoWays(t *testing.T) {
	for name, c := range map[string]struct {
		to   trust.Distributor
		want []string
		err  error
	}{
		"one":                  {&distributor{behind: []string{"x"}}, []string{"x"}, nil},
		"the second of two":    {trust.Both{&distributor{}, &distributor{behind: []string{"x"}}}, []string{"x"}, nil},
		"both":                 {trust.Both{&distributor{behind: []string{"x"}}, &distributor{behind: []string{"y"}}}, []string{"x", "y"}, nil},
		"the first is unknown": {trust.Both{&distributor{err: errAway}, &distributor{}}, nil, errAway},
		"so is the second":     {trust.Both{&distributor{}, &distributor{err: errAway}}, nil, errAway},
	} {
		t.Run(name, func(t *testing.T) {
			p := trust.NewPublisher(c.to, source.NewBook(fake.NewClientBuilder().Build(), namespace), clocktesting.NewFakePassiveClock(now))
			if got, err := p.Behind(t.Context(), signerName); !errors.Is(err, c.err) || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v, want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

// warns is a Distributor that knows of something.
type warns struct{ *distributor }

func (w warns) Warnings(_ context.Context, signerName string) []string {
	return []string{"of " + signerName}
}

func TestPublisherTellsWhereABundleIsNot(t *testing.T) {
	anchor := newCert(t, "A", nil)
	for name, c := range map[string]struct {
		to   trust.Distributor
		want int
	}{
		"one that knows nothing": {&distributor{}, 0},
		"one that does":          {warns{&distributor{}}, 1},
		"the second of two":      {trust.Both{&distributor{}, warns{&distributor{}}}, 1},
		"both":                   {trust.Both{warns{&distributor{}}, warns{&distributor{}}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := trust.NewPublisher(c.to, source.NewBook(fake.NewClientBuilder().Build(), namespace), clocktesting.NewFakePassiveClock(now))
			_, warnings, err := p.Publish(t.Context(), signerObject("internal", signerName), []*x509.Certificate{anchor})
			if err != nil || len(warnings) != c.want {
				t.Errorf("warnings %q, %v, want %d", warnings, err, c.want)
			}
		})
	}
}
