// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust/source"
)

const namespace = "certwright-system"

// ca returns a CA certificate in PEM.
func ca(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func secret(in, name, text string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: in, Name: name}, Data: map[string][]byte{"ca.crt": []byte(text)}}
}

func configMap(in, name, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: in, Name: name}, Data: map[string]string{"ca.crt": text}}
}

func secretRef(name, key string) v1alpha1.TrustSource {
	return v1alpha1.TrustSource{SecretRef: &v1alpha1.SecretKeyRef{Name: name, Key: key}}
}

func configMapRef(name, key string) v1alpha1.TrustSource {
	return v1alpha1.TrustSource{ConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: name, Key: key}}
}

func inline(text string) v1alpha1.TrustSource { return v1alpha1.TrustSource{PEM: text} }

func signer(sources ...v1alpha1.TrustSource) *v1alpha1.Signer {
	return &v1alpha1.Signer{Spec: v1alpha1.SignerSpec{SignerName: "example.com/internal", TrustBundle: v1alpha1.TrustBundle{Additional: sources}}}
}

// parse returns certificates in PEM, one each.
func parse(t *testing.T, texts ...string) (certs []*x509.Certificate) {
	t.Helper()
	for _, text := range texts {
		block, _ := pem.Decode([]byte(text))
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

// names are the common names of what was read.
func names(set source.Set) string {
	var all []string
	for _, c := range set.Anchors {
		all = append(all, c.Subject.CommonName)
	}
	return strings.Join(all, " ")
}

func TestRead(t *testing.T) {
	a, b, c := ca(t, "A"), ca(t, "B"), ca(t, "C")
	key := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("hush")}))
	objects := []client.Object{
		secret(namespace, "a", a), configMap(namespace, "b", b), secret(namespace, "many", a+b+c), secret(namespace, "key", a+key), secret(namespace, "cut", a+b[:len(b)-40]),
		secret("tenant", "theirs", c), configMap("tenant", "theirs", c),
	}
	for name, c := range map[string]struct {
		sources  []v1alpha1.TrustSource
		want     string
		warnings []string
	}{
		"none":                     {nil, "", nil},
		"of each kind":             {[]v1alpha1.TrustSource{secretRef("a", "ca.crt"), configMapRef("b", "ca.crt"), inline(c)}, "A B C", nil},
		"several in one":           {[]v1alpha1.TrustSource{secretRef("many", "ca.crt")}, "A B C", nil},
		"repeated":                 {[]v1alpha1.TrustSource{inline(a + a), secretRef("many", "ca.crt")}, "A B C", []string{"additional[0].pem: CN=A (serial number 7) is there more than once", "entry ca.crt of Secret many: CN=A (serial number 7) is there more than once"}},
		"no such Secret":           {[]v1alpha1.TrustSource{secretRef("none", "ca.crt"), inline(c)}, "C", []string{`secrets "none" not found`}},
		"no such ConfigMap":        {[]v1alpha1.TrustSource{configMapRef("none", "ca.crt"), inline(c)}, "C", []string{`configmaps "none" not found`}},
		"no such entry":            {[]v1alpha1.TrustSource{secretRef("a", "tls.crt"), configMapRef("b", "tls.crt")}, "", []string{"entry tls.crt of Secret a cannot be read: there is no such entry", "entry tls.crt of ConfigMap b cannot be read: there is no such entry"}},
		"one certificate is cut":   {[]v1alpha1.TrustSource{secretRef("cut", "ca.crt")}, "", []string{"is not a complete PEM block"}},
		"no PEM":                   {[]v1alpha1.TrustSource{inline("hello")}, "", []string{"additional[0].pem cannot be read"}},
		"a key beside it":          {[]v1alpha1.TrustSource{secretRef("key", "ca.crt")}, "", []string{"only CERTIFICATE without headers may be there"}},
		"of another namespace":     {[]v1alpha1.TrustSource{secretRef("theirs", "ca.crt"), configMapRef("theirs", "ca.crt")}, "", []string{"not found", "not found"}},
		"a name that is no secret": {[]v1alpha1.TrustSource{secretRef("../tenant/theirs", "ca.crt")}, "", []string{"cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			set := source.NewBook(fake.NewClientBuilder().WithObjects(objects...).Build(), namespace).Read(t.Context(), signer(c.sources...), nil, nil)
			if names(set) != c.want || set.Lost != nil || len(set.Warnings) != len(c.warnings) {
				t.Fatalf("got %q, warnings %q, lost %v, want %q", names(set), set.Warnings, set.Lost, c.want)
			}
			for i, w := range c.warnings {
				if !strings.Contains(set.Warnings[i], w) || strings.Contains(set.Warnings[i], "hush") {
					t.Errorf("warning %q, want %q", set.Warnings[i], w)
				}
			}
		})
	}
}

// Whoever breaks a source takes nothing from those who verify.
func TestASourceThatBreaksGivesWhatItGave(t *testing.T) {
	a, b := ca(t, "A"), ca(t, "B")
	c := fake.NewClientBuilder().WithObjects(secret(namespace, "a", a)).Build()
	book, s := source.NewBook(c, namespace), signer(inline(b), secretRef("a", "ca.crt"))
	put := func(text string) {
		t.Helper()
		if err := c.Update(t.Context(), secret(namespace, "a", text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		what     string
		change   func()
		want     string
		warnings int
	}{
		{"at first", func() {}, "B A", 0},
		{"broken", func() { put(a[:100]) }, "B A", 1},
		{"still broken, in another place", func() { s.Spec.TrustBundle.Additional = s.Spec.TrustBundle.Additional[1:] }, "A", 1},
		{"emptied", func() { put("") }, "A", 1},
		{"mended", func() { put(b) }, "B", 0},
		{"deleted", func() {
			if err := c.Delete(t.Context(), secret(namespace, "a", "")); err != nil {
				t.Fatal(err)
			}
		}, "B", 1},
		{"taken out", func() { s.Spec.TrustBundle.Additional = nil }, "", 0},
		{"put in again", func() { s.Spec.TrustBundle.Additional = []v1alpha1.TrustSource{secretRef("a", "ca.crt")} }, "", 1},
	} {
		step.change()
		s.Status.TrustBundle = "there" // it was published
		if step.what == "at first" {
			s.Status.TrustBundle = ""
		}
		if set := book.Read(t.Context(), s, nil, nil); names(set) != step.want || len(set.Warnings) != step.warnings || set.Lost != nil {
			t.Errorf("%s: got %q, warnings %q, lost %v, want %q", step.what, names(set), set.Warnings, set.Lost, step.want)
		}
	}
	book.Forget(s.Spec.SignerName)
	away := errors.New("etcd is away")
	if set := book.Read(t.Context(), s, nil, func(context.Context) ([]*x509.Certificate, error) { return nil, away }); !errors.Is(set.Lost, away) {
		t.Errorf("nothing is known any more, and lost is %v", set.Lost)
	}
	// What is published is what it gave, from then on.
	published := func(context.Context) ([]*x509.Certificate, error) { return parse(t, a, b), nil }
	for range 2 {
		set := book.Read(t.Context(), s, parse(t, b), published)
		if names(set) != "A" || set.Lost != nil || len(set.Warnings) != 1 || !strings.Contains(set.Warnings[0], "2 certificates stay") {
			t.Errorf("got %q, warnings %q, lost %v", names(set), set.Warnings, set.Lost)
		}
		published = nil
	}
}
