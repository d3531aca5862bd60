// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/certwright/certwright/trust"
)

func TestClusterTrustBundles(t *testing.T) {
	const object = "example.com:internal:certwright"
	a, b := newCert(t, "A", nil), newCert(t, "B", nil)
	for _, version := range []string{"v1", "v1beta1"} {
		t.Run(version, func(t *testing.T) {
			c := newClient(t)
			p, err := trust.NewClusterTrustBundles(c, c, version, clocktesting.NewFakePassiveClock(now))
			if err != nil {
				t.Fatal(err)
			}
			published := func() (signerName, text string, meta metav1.ObjectMeta) {
				t.Helper()
				signerName, text, meta, err = clusterBundle(t, c, version)
				return signerName, text, meta
			}
			for _, s := range []struct {
				name    string
				owner   string
				anchors []*x509.Certificate
				writes  string
				want    string
			}{
				{"first", "internal", []*x509.Certificate{a}, "create /" + object, pemOf(a)},
				{"again", "internal", []*x509.Certificate{a, a}, "", pemOf(a)},
				{"changed", "internal", []*x509.Certificate{b, newCert(t, "Old", expired)}, "update /" + object, pemOf(b)},
				{"an heir of the signerName", "heir", []*x509.Certificate{b}, "update /" + object, pemOf(b)},
				{"back again", "internal", []*x509.Certificate{b}, "update /" + object, pemOf(b)},
			} {
				where, err := p.Publish(t.Context(), signerObject(s.owner, signerName), bundle(t, s.anchors...))
				if err != nil || where != "clustertrustbundle/"+object {
					t.Errorf("%s: %s, %v", s.name, where, err)
				}
				if writes := c.took(); writes != s.writes {
					t.Errorf("%s: writes %q, want %q", s.name, writes, s.writes)
				}
				if text, err := p.Current(t.Context(), signerName); err != nil || text != s.want {
					t.Errorf("%s: current is %q, error %v, want %q", s.name, text, err, s.want)
				}
				if text, err := p.Current(t.Context(), "example.com/none"); err != nil || text != "" {
					t.Errorf("%s: there is a bundle of nobody: %q, error %v", s.name, text, err)
				}
				name, text, meta := published()
				if name != signerName || text != s.want || meta.Labels["app.kubernetes.io/managed-by"] != "certwright" {
					t.Errorf("%s: published for %s with labels %v:\n%swant\n%s", s.name, name, meta.Labels, text, s.want)
				}
				if want := ownedBy(s.owner); !equality.Semantic.DeepEqual(meta.OwnerReferences, want) {
					t.Errorf("%s: owned by %v, want %v", s.name, meta.OwnerReferences, want)
				}
			}
			c.fail = errors.New("etcd is away")
			if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, a)); !errors.Is(err, c.fail) {
				t.Errorf("Publish returned %v, want the error of the write", err)
			}
			if err := p.Withdraw(t.Context(), signerName); !errors.Is(err, c.fail) {
				t.Errorf("Withdraw returned %v, want the error of the write", err)
			}
			c.fail = nil
			for range 2 {
				if err := p.Withdraw(t.Context(), signerName); err != nil {
					t.Errorf("Withdraw: %v", err)
				}
			}
			if published(); !apierrors.IsNotFound(err) {
				t.Errorf("after Withdraw: %v", err)
			}
		})
	}
	if _, err := trust.NewClusterTrustBundles(nil, nil, "v1alpha1", nil); err == nil {
		t.Error("v1alpha1 was accepted")
	}
}

// clusterBundle returns what is published as a ClusterTrustBundle of a version.
func clusterBundle(t *testing.T, c client.Client, version string) (signerName, text string, meta metav1.ObjectMeta, err error) {
	t.Helper()
	key := client.ObjectKey{Name: "example.com:internal:certwright"}
	if version == "v1" {
		var o certificatesv1.ClusterTrustBundle
		err = c.Get(t.Context(), key, &o)
		return o.Spec.SignerName, o.Spec.TrustBundle, o.ObjectMeta, err
	}
	var o certificatesv1beta1.ClusterTrustBundle
	err = c.Get(t.Context(), key, &o)
	return o.Spec.SignerName, o.Spec.TrustBundle, o.ObjectMeta, err
}

// Whoever may write ClusterTrustBundles, by mistake or not, takes nothing from those who verify.
func TestClusterTrustBundlesArePutBack(t *testing.T) {
	const object = "example.com:internal:certwright"
	a := newCert(t, "A", nil)
	planted := pemOf(newCert(t, "Planted", nil))
	for _, version := range []string{"v1", "v1beta1"} {
		for name, c := range map[string]struct {
			// tamper changes the bundle and reports whether it stays.
			tamper func(meta *metav1.ObjectMeta, text *string) bool
			writes string
		}{
			"as it was":       {func(*metav1.ObjectMeta, *string) bool { return true }, ""},
			"other anchors":   {func(_ *metav1.ObjectMeta, text *string) bool { *text = planted; return true }, "update /" + object},
			"one anchor more": {func(_ *metav1.ObjectMeta, text *string) bool { *text += planted; return true }, "update /" + object},
			"emptied":         {func(_ *metav1.ObjectMeta, text *string) bool { *text = ""; return true }, "update /" + object},
			"deleted":         {func(*metav1.ObjectMeta, *string) bool { return false }, "create /" + object},
			"without our label": {func(m *metav1.ObjectMeta, _ *string) bool {
				m.Labels = map[string]string{"example.com/team": "a"}
				return true
			}, "update /" + object},
			"without its owner": {func(m *metav1.ObjectMeta, _ *string) bool { m.OwnerReferences = nil; return true }, "update /" + object},
			"another owner":     {func(m *metav1.ObjectMeta, _ *string) bool { m.OwnerReferences = ownedBy("other"); return true }, "update /" + object},
			"somebody's label":  {func(m *metav1.ObjectMeta, _ *string) bool { m.Labels["example.com/team"] = "a"; return true }, ""},
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				cl := newClient(t)
				p, err := trust.NewClusterTrustBundles(cl, cl, version, clocktesting.NewFakePassiveClock(now))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, a)); err != nil {
					t.Fatal(err)
				}
				tamper(t, cl, version, c.tamper)
				cl.took()
				for _, writes := range []string{c.writes, ""} { // the second time it is right
					reconcileBundle(t, p, object, 0)
					if got := cl.took(); got != writes {
						t.Errorf("writes %q, want %q", got, writes)
					}
				}
				name, text, meta, err := clusterBundle(t, cl, version)
				if err != nil || name != signerName || text != pemOf(a) || meta.Labels["app.kubernetes.io/managed-by"] != "certwright" || !equality.Semantic.DeepEqual(meta.OwnerReferences, ownedBy("internal")) {
					t.Errorf("published for %q with %v, error %v:\n%s", name, meta, err, text)
				}
			})
		}
	}
}

// tamper changes what is published in the way of somebody else.
func tamper(t *testing.T, c client.Client, version string, change func(*metav1.ObjectMeta, *string) bool) {
	t.Helper()
	_, text, meta, err := clusterBundle(t, c, version)
	if err != nil {
		t.Fatal(err)
	}
	stays := change(&meta, &text)
	var o client.Object = &certificatesv1.ClusterTrustBundle{ObjectMeta: meta, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signerName, TrustBundle: text}}
	if version == "v1beta1" {
		o = &certificatesv1beta1.ClusterTrustBundle{ObjectMeta: meta, Spec: certificatesv1beta1.ClusterTrustBundleSpec{SignerName: signerName, TrustBundle: text}}
	}
	if stays {
		err = c.Update(t.Context(), o)
	} else {
		err = c.Delete(t.Context(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func reconcileBundle(t *testing.T, p *trust.ClusterTrustBundles, name string, wait time.Duration) {
	t.Helper()
	result, err := p.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	if err != nil || result.RequeueAfter != wait {
		t.Errorf("got %v, %v, want to come back in %s", result, err, wait)
	}
}

// What nothing was published for, such as right after a start, and what was withdrawn is nobody's to put back.
func TestOtherClusterTrustBundlesStay(t *testing.T) {
	c := newClient(t, &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: "example.com:other:certwright", Labels: map[string]string{"app.kubernetes.io/managed-by": "certwright"}},
	})
	p, err := trust.NewClusterTrustBundles(c, c, "v1", clocktesting.NewFakePassiveClock(now))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, newCert(t, "A", nil))); err != nil {
		t.Fatal(err)
	}
	if err := p.Withdraw(t.Context(), signerName); err != nil {
		t.Fatal(err)
	}
	c.took()
	for _, name := range []string{"example.com:other:certwright", "example.com:internal:certwright"} {
		reconcileBundle(t, p, name, 0)
	}
	if writes := c.took(); writes != "" {
		t.Errorf("writes %q", writes)
	}
}

// Another controller that wants the same object otherwise answers each of our writes with one of its own.
func TestAnotherWriterOfClusterTrustBundles(t *testing.T) {
	const object = "example.com:internal:certwright"
	clk := clocktesting.NewFakePassiveClock(now)
	c := newClient(t)
	p, err := trust.NewClusterTrustBundles(c, c, "v1", clk)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(cert *x509.Certificate) {
		t.Helper()
		if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, cert)); err != nil {
			t.Fatal(err)
		}
	}
	publish(newCert(t, "A", nil))
	planted := pemOf(newCert(t, "Planted", nil))
	plant := func(_ *metav1.ObjectMeta, text *string) bool { *text = planted; return true }
	writes := 0
	for start := clk.Now(); clk.Since(start) < 10*time.Minute; {
		if _, text, _, _ := clusterBundle(t, c, "v1"); text != planted {
			tamper(t, c, "v1", plant)
		}
		c.took()
		result, err := p.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: object}})
		if err != nil || result.RequeueAfter > time.Minute {
			t.Fatalf("got %v, %v", result, err)
		}
		if c.took() != "" {
			writes++
		} else {
			clk.SetTime(clk.Now().Add(result.RequeueAfter))
		}
	}
	if writes < 10 || writes > 25 {
		t.Errorf("%d writes in ten minutes, want more than one a minute, and not many", writes)
	}
	tamper(t, c, "v1", plant)
	b := newCert(t, "B", nil)
	publish(b)
	if _, text, _, _ := clusterBundle(t, c, "v1"); text != pemOf(b) {
		t.Error("new anchors wait for the other writer")
	}
}

// Both Publish and Reconcile write: whichever comes first, what was published last is what stays.
func TestPublishWhileItIsPutBack(t *testing.T) {
	c := newClient(t)
	p, err := trust.NewClusterTrustBundles(c, c, "v1", clocktesting.NewFakePassiveClock(now))
	if err != nil {
		t.Fatal(err)
	}
	var last *x509.Certificate
	for range 20 {
		last = newCert(t, "A", nil)
		var group sync.WaitGroup
		group.Go(func() { reconcileBundle(t, p, "example.com:internal:certwright", 0) })
		if _, err := p.Publish(t.Context(), signerObject("internal", signerName), bundle(t, last)); err != nil {
			t.Error(err)
		}
		group.Wait()
		if _, text, _, _ := clusterBundle(t, c, "v1"); text != pemOf(last) {
			t.Fatal("an older bundle took the place of a newer one")
		}
	}
}
