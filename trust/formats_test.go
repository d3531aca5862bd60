// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"testing"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	corev1 "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/keystore"
	"github.com/certwright/certwright/trust"
)

// Keys of the bundle of signerName.
const pemKey, p12Key, jksKey = "example.com_internal.pem", "example.com_internal.p12", "example.com_internal.jks"

// withFormats has a Signer select all namespaces, and want these formats.
func withFormats(s *v1alpha1.Signer, formats ...v1alpha1.TrustFormat) *v1alpha1.Signer {
	s.Spec.TrustBundle.ConfigMap = selecting(nil)
	s.Spec.TrustBundle.ConfigMap.Formats = formats
	return s
}

// shopConfigMap is the ConfigMap as it is.
func shopConfigMap(t *testing.T, c client.Client) *corev1.ConfigMap {
	t.Helper()
	var m corev1.ConfigMap
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: v1alpha1.TrustConfigMap}, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// trusted returns the certificates of a truststore that Java reads with its usual password.
func trusted(t *testing.T, key string, store []byte) []*x509.Certificate {
	t.Helper()
	if strings.HasSuffix(key, ".p12") {
		certs, err := pkcs12.DecodeTrustStore(store, "changeit")
		if err != nil {
			t.Fatalf("reading %s: %v", key, err)
		}
		return certs
	}
	loaded := jks.New()
	if err := loaded.Load(bytes.NewReader(store), []byte("changeit")); err != nil {
		t.Fatalf("reading %s: %v", key, err)
	}
	var certs []*x509.Certificate
	for _, alias := range loaded.Aliases() {
		entry, err := loaded.GetTrustedCertificateEntry(alias)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(entry.Certificate.Content)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

// wantStores fails unless the ConfigMap holds truststores of these keys and no other binary data, each of the same certificates.
func wantStores(t *testing.T, m *corev1.ConfigMap, keys []string, certs ...*x509.Certificate) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(m.BinaryData)); !slices.Equal(got, keys) {
		t.Fatalf("truststores %q, want %q", got, keys)
	}
	for key, store := range m.BinaryData {
		got := trusted(t, key, store)
		if len(got) != len(certs) {
			t.Errorf("%s holds %d certificates, want %d", key, len(got), len(certs))
		}
		for _, c := range certs {
			if !slices.ContainsFunc(got, c.Equal) {
				t.Errorf("%s lacks a certificate of %s", key, c.Subject)
			}
		}
	}
}

// While a root is replaced both are published, and they may have one name.
func TestFormatsFollowTheBundleAndTheSigner(t *testing.T) {
	old, next := newCert(t, "Root", nil), newCert(t, "Root", nil)
	for name, all := range map[string]bool{"where pods get ConfigMaps": true, "where they get ClusterTrustBundles": false} {
		t.Run(name, func(t *testing.T) {
			s := signerObject("internal", signerName)
			c := newClient(t, namespaceObject("shop"), s)
			p := trust.NewConfigMaps(c, namespace, all, clocktesting.NewFakePassiveClock(now))
			for _, step := range []struct {
				what    string
				formats []v1alpha1.TrustFormat
				anchors []*x509.Certificate
				writes  string
				want    []string
			}{
				{"both", []v1alpha1.TrustFormat{"PKCS12", "JKS"}, []*x509.Certificate{old}, "create shop/certwright-trust", []string{jksKey, p12Key}},
				{"the same again", []v1alpha1.TrustFormat{"PKCS12", "JKS"}, []*x509.Certificate{old}, "", []string{jksKey, p12Key}},
				{"in another order", []v1alpha1.TrustFormat{"JKS", "PKCS12"}, []*x509.Certificate{old}, "", []string{jksKey, p12Key}},
				{"another root beside it", []v1alpha1.TrustFormat{"JKS", "PKCS12"}, []*x509.Certificate{old, next}, "update shop/certwright-trust", []string{jksKey, p12Key}},
				{"the other way round", []v1alpha1.TrustFormat{"JKS", "PKCS12"}, []*x509.Certificate{next, old}, "", []string{jksKey, p12Key}},
				{"the old one gone", []v1alpha1.TrustFormat{"JKS", "PKCS12"}, []*x509.Certificate{next}, "update shop/certwright-trust", []string{jksKey, p12Key}},
				{"one no longer wanted", []v1alpha1.TrustFormat{"PKCS12"}, []*x509.Certificate{next}, "update shop/certwright-trust", []string{p12Key}},
				{"none wanted", nil, []*x509.Certificate{next}, "update shop/certwright-trust", nil},
			} {
				if _, err := p.Publish(t.Context(), withFormats(s, step.formats...), bundle(t, step.anchors...)); err != nil {
					t.Fatal(err)
				}
				reconcileShop(t, p)
				if writes := c.took(); writes != step.writes {
					t.Errorf("%s: writes %q, want %q", step.what, writes, step.writes)
				}
				wantStores(t, shopConfigMap(t, c), step.want, step.anchors...)
			}
		})
	}
}

// Whoever may write ConfigMaps of a namespace changes what its pods trust for a moment only.
func TestTruststoresArePutBack(t *testing.T) {
	a, planted := newCert(t, "A", nil), newCert(t, "Planted", nil)
	evil, err := keystore.Truststore(keystore.JKS, []*x509.Certificate{planted}, keystore.DefaultPassword)
	if err != nil {
		t.Fatal(err)
	}
	for name, tamper := range map[string]func(*corev1.ConfigMap){
		"other certificates": func(m *corev1.ConfigMap) { m.BinaryData[jksKey] = evil },
		"taken away":         func(m *corev1.ConfigMap) { delete(m.BinaryData, p12Key) },
		"emptied":            func(m *corev1.ConfigMap) { m.BinaryData[p12Key] = nil },
		"all taken away":     func(m *corev1.ConfigMap) { m.BinaryData = nil },
		"another one":        func(m *corev1.ConfigMap) { m.BinaryData["example.com_other.jks"] = evil },
		"as text": func(m *corev1.ConfigMap) {
			delete(m.BinaryData, jksKey)
			m.Data[jksKey] = "text"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := signerObject("internal", signerName)
			c := newClient(t, namespaceObject("shop"), s)
			p := trust.NewConfigMaps(c, namespace, true, clocktesting.NewFakePassiveClock(now))
			if _, err := p.Publish(t.Context(), withFormats(s, "JKS", "PKCS12"), bundle(t, a)); err != nil {
				t.Fatal(err)
			}
			reconcileShop(t, p)
			m := shopConfigMap(t, c)
			tamper(m)
			if err := c.Update(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			c.took()
			for _, writes := range []string{"update shop/certwright-trust", ""} {
				reconcileShop(t, p)
				if got := c.took(); got != writes {
					t.Errorf("writes %q, want %q", got, writes)
				}
			}
			wantStores(t, shopConfigMap(t, c), []string{jksKey, p12Key}, a)
			if m := shopConfigMap(t, c); !maps.Equal(m.Data, map[string]string{pemKey: pemOf(a)}) {
				t.Errorf("beside the truststores there is %v", m.Data)
			}
		})
	}
}

// A process that begins anew takes no truststore from pods before it knows what is wanted.
func TestTruststoresStayOverARestart(t *testing.T) {
	a := newCert(t, "A", nil)
	internal, other := withFormats(signerObject("internal", signerName), "JKS"), withFormats(signerObject("other", otherName), "PKCS12")
	c := newClient(t, namespaceObject("shop"), internal, other)
	for range 2 { // the second one finds what the first one published
		p := trust.NewConfigMaps(c, namespace, true, clocktesting.NewFakePassiveClock(now))
		c.took()
		reconcileShop(t, p)
		if writes := c.took(); writes != "" {
			t.Errorf("before anything is known it writes %q", writes)
		}
		for _, s := range []*v1alpha1.Signer{internal, other} {
			if _, err := p.Publish(t.Context(), s, bundle(t, a)); err != nil {
				t.Fatal(err)
			}
			reconcileShop(t, p)
		}
		wantStores(t, shopConfigMap(t, c), []string{jksKey, "example.com_other.p12"}, a)
	}
	if writes := c.took(); writes != "" {
		t.Errorf("after a restart it writes %q", writes)
	}
	if err := c.Delete(t.Context(), internal); err != nil {
		t.Fatal(err)
	}
	reconcileShop(t, trust.NewConfigMaps(c, namespace, true, clocktesting.NewFakePassiveClock(now)))
	wantStores(t, shopConfigMap(t, c), []string{"example.com_other.p12"}, a)
}
