// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"crypto/x509"
	"errors"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
			published := func() (signerName, bundle string, meta metav1.ObjectMeta) {
				t.Helper()
				if version == "v1" {
					var o certificatesv1.ClusterTrustBundle
					err = c.Get(t.Context(), client.ObjectKey{Name: object}, &o)
					return o.Spec.SignerName, o.Spec.TrustBundle, o.ObjectMeta
				}
				var o certificatesv1beta1.ClusterTrustBundle
				err = c.Get(t.Context(), client.ObjectKey{Name: object}, &o)
				return o.Spec.SignerName, o.Spec.TrustBundle, o.ObjectMeta
			}
			for _, s := range []struct {
				name    string
				owner   string
				anchors []*x509.Certificate
				writes  string
				want    string
				fails   bool
			}{
				{"first", "internal", []*x509.Certificate{a}, "create /" + object, pemOf(a), false},
				{"again", "internal", []*x509.Certificate{a, a}, "", pemOf(a), false},
				{"changed", "internal", []*x509.Certificate{b, newCert(t, "Old", expired)}, "update /" + object, pemOf(b), false},
				{"an heir of the signerName", "heir", []*x509.Certificate{b}, "update /" + object, pemOf(b), false},
				{"back again", "internal", []*x509.Certificate{b}, "update /" + object, pemOf(b), false},
				{"empty", "internal", nil, "", pemOf(b), true},
				{"all expired", "internal", []*x509.Certificate{newCert(t, "Old", expired)}, "", pemOf(b), true},
			} {
				where, err := p.Publish(t.Context(), signerObject(s.owner, signerName), s.anchors)
				if (err != nil) != s.fails || err == nil && where != "clustertrustbundle/"+object {
					t.Errorf("%s: %s, %v", s.name, where, err)
				}
				if writes := c.took(); writes != s.writes {
					t.Errorf("%s: writes %q, want %q", s.name, writes, s.writes)
				}
				name, bundle, meta := published()
				if name != signerName || bundle != s.want || meta.Labels["app.kubernetes.io/managed-by"] != "certwright" {
					t.Errorf("%s: published for %s with labels %v:\n%swant\n%s", s.name, name, meta.Labels, bundle, s.want)
				}
				if want := ownedBy(s.owner); !equality.Semantic.DeepEqual(meta.OwnerReferences, want) {
					t.Errorf("%s: owned by %v, want %v", s.name, meta.OwnerReferences, want)
				}
			}
			c.fail = errors.New("etcd is away")
			if _, err := p.Publish(t.Context(), signerObject("internal", signerName), []*x509.Certificate{a}); !errors.Is(err, c.fail) {
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
