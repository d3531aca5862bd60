// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/trust"
	"github.com/certwright/certwright/trust/source"
)

// distributor notes what it is given.
type distributor struct {
	text      string
	withdrawn []string
	behind    []string
	err       error
}

func (d *distributor) Publish(_ context.Context, _ *v1alpha1.Signer, b trust.Bundle) (string, error) {
	if d.err == nil {
		d.text = b.PEM
	}
	return "there", d.err
}

func (d *distributor) Current(context.Context, string) (string, error) { return d.text, d.err }

func (d *distributor) Behind(context.Context, string) ([]string, error) { return d.behind, d.err }

func (d *distributor) Withdraw(_ context.Context, signerName string) error {
	d.withdrawn = append(d.withdrawn, signerName)
	return d.err
}

const namespace = "certwright-system"

var errAway = errors.New("etcd is away")

func secret(name, text string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{"ca.crt": []byte(text)}}
}

func secretRef(name string) v1alpha1.TrustSource {
	return v1alpha1.TrustSource{SecretRef: &v1alpha1.SecretKeyRef{Name: name, Key: "ca.crt"}}
}

func TestPublisher(t *testing.T) {
	a, b, old, leaf := newCert(t, "A", nil), newCert(t, "B", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(-time.Hour) }), newCert(t, "Old", expired), newCert(t, "Leaf", noCA)
	for name, c := range map[string]struct {
		anchors  []*x509.Certificate
		added    []v1alpha1.TrustSource
		want     string
		warnings []string
		err      string
	}{
		"nothing is added":        {[]*x509.Certificate{a}, nil, pemOf(a), nil, ""},
		"one more":                {[]*x509.Certificate{a}, []v1alpha1.TrustSource{secretRef("b")}, pemOf(a, b), nil, ""},
		"added ones alone":        {nil, []v1alpha1.TrustSource{secretRef("b")}, pemOf(b), nil, ""},
		"there already":           {[]*x509.Certificate{a}, []v1alpha1.TrustSource{{PEM: pemOf(a)}}, pemOf(a), []string{"additional[0].pem: CN=A (serial number 7) is a trust anchor of a backend"}, ""},
		"not fit":                 {[]*x509.Certificate{a}, []v1alpha1.TrustSource{{PEM: pemOf(old, leaf, b)}}, pemOf(a, b), []string{"CN=Old (serial number 7) expired", "CN=Leaf (serial number 7) is no CA"}, ""},
		"a source that is broken": {[]*x509.Certificate{a}, []v1alpha1.TrustSource{secretRef("none"), secretRef("b")}, pemOf(a, b), []string{"entry ca.crt of Secret none cannot be read"}, ""},
		"nothing is left":         {nil, []v1alpha1.TrustSource{{PEM: pemOf(old)}}, "", nil, "none of the 1 trust anchors can be published"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &distributor{}
			p := trust.NewPublisher(d, source.NewBook(newClient(t, secret("b", pemOf(b))), namespace), clocktesting.NewFakePassiveClock(now))
			s := signerObject("internal", signerName)
			s.Spec.TrustBundle.Additional = c.added
			where, warnings, err := p.Publish(t.Context(), s, c.anchors)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || d.text != "" {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || where != "there" || d.text != c.want || len(warnings) != len(c.warnings) {
				t.Fatalf("got %s, warnings %q, error %v and\n%swant\n%s", where, warnings, err, d.text, c.want)
			}
			for i, w := range c.warnings {
				if !strings.HasPrefix(warnings[i], w) {
					t.Errorf("warning %q, want %q", warnings[i], w)
				}
			}
		})
	}
}

// A bundle is left as it is if what takes its place would lack what an earlier process published.
func TestASourceIsBrokenSinceTheStart(t *testing.T) {
	a, b := newCert(t, "A", nil), newCert(t, "B", nil)
	c, d := newClient(t), &distributor{}
	p := trust.NewPublisher(d, source.NewBook(c, namespace), clocktesting.NewFakePassiveClock(now))
	s := signerObject("internal", signerName)
	s.Spec.TrustBundle.Additional, s.Status.TrustBundle = []v1alpha1.TrustSource{secretRef("b")}, "there"
	publish := func() error {
		_, _, err := p.Publish(t.Context(), s, []*x509.Certificate{a})
		return err
	}
	d.text, d.err = bundle(t, a, b).PEM, errAway
	if err := publish(); !errors.Is(err, errAway) || d.text != bundle(t, a, b).PEM {
		t.Errorf("got %v, published\n%s", err, d.text)
	}
	d.err = nil
	for range 2 { // what is there stays
		if err := publish(); err != nil || d.text != bundle(t, a, b).PEM {
			t.Errorf("got %v, published\n%s", err, d.text)
		}
	}
	o := secret("b", pemOf(b))
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	both := bundle(t, a, b).PEM
	if err := publish(); err != nil || d.text != both {
		t.Errorf("got %v, published\n%s", err, d.text)
	}
	if err := c.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := publish(); err != nil || d.text != both {
		t.Errorf("after the source went: %v, published\n%s", err, d.text)
	}
	s.Spec.TrustBundle.Additional = nil
	if err := publish(); err != nil || d.text != pemOf(a) {
		t.Errorf("after it was taken out: %v, published\n%s", err, d.text)
	}
}

// A source that is broken since the start keeps no root from being replaced, least of all a compromised one, which does not come back.
func TestASourceIsBrokenInAnEmergency(t *testing.T) {
	old, next, added, root := newCert(t, "Old", nil), newCert(t, "Next", nil), newCert(t, "Added", nil), newCert(t, "New", nil)
	d := &distributor{text: bundle(t, old, next, added).PEM}
	p := trust.NewPublisher(d, source.NewBook(newClient(t), namespace), clocktesting.NewFakePassiveClock(now))
	s := signerObject("internal", signerName)
	s.Spec.TrustBundle.Additional, s.Status.TrustBundle = []v1alpha1.TrustSource{secretRef("gone"), secretRef("gone-too")}, "there"
	s.Status.Backends = []v1alpha1.BackendStatus{{Name: "local", Root: signer.Fingerprint(old), Rotation: &v1alpha1.Rotation{OldRoot: signer.Fingerprint(old), NewRoot: signer.Fingerprint(next)}}}
	for range 3 {
		where, warnings, err := p.Publish(t.Context(), s, []*x509.Certificate{root})
		if err != nil || where != "there" || d.text != bundle(t, added, root).PEM || len(warnings) != 2 || !strings.Contains(warnings[0], "Secret gone cannot be read") {
			t.Errorf("got %v, warnings %q, published\n%s", err, warnings, d.text)
		}
		s.Status.Backends = []v1alpha1.BackendStatus{{Name: "local", Root: signer.Fingerprint(root)}}
		d.text = bundle(t, old, next, added).PEM // a cache that lags behind
	}
}

func TestPublicRoots(t *testing.T) {
	a, d := newCert(t, "A", nil), &distributor{}
	p := trust.NewPublisher(d, source.NewBook(newClient(t), namespace), clocktesting.NewFakePassiveClock(now))
	s := signerObject("internal", signerName)
	s.Spec.TrustBundle.PublicRoots = true
	_, warnings, err := p.Publish(t.Context(), s, []*x509.Certificate{a})
	if err != nil || len(warnings) > 0 || !strings.Contains(d.text, pemOf(a)) {
		t.Fatalf("warnings %q, error %v", warnings, err)
	}
	if n := len(d.text); n > 1<<18 {
		t.Errorf("it takes %d bytes, more than a quarter of what fits", n)
	}
	var known, all int
	for block, rest := pem.Decode([]byte(d.text)); block != nil; block, rest = pem.Decode(rest) {
		all++
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && strings.Contains(c.Subject.CommonName, "ISRG Root X1") {
			known++
		}
	}
	if known != 1 || all < 80 {
		t.Errorf("%d certificates, of them %d are Let's Encrypt's", all, known)
	}
}

func TestWithdrawAndTroubleOfTheDistributor(t *testing.T) {
	d := &distributor{err: errors.New("etcd is away")}
	p := trust.NewPublisher(d, source.NewBook(newClient(t), namespace), clocktesting.NewFakePassiveClock(now))
	if _, _, err := p.Publish(t.Context(), signerObject("internal", signerName), []*x509.Certificate{newCert(t, "A", nil)}); !errors.Is(err, d.err) {
		t.Errorf("got %v", err)
	}
	if err := p.Withdraw(t.Context(), signerName); !errors.Is(err, d.err) {
		t.Errorf("got %v", err)
	}
	d.err = nil
	if err := p.Withdraw(t.Context(), signerName); err != nil || len(d.withdrawn) != 2 || d.withdrawn[1] != signerName {
		t.Errorf("got %v, withdrawn %q", err, d.withdrawn)
	}
}

func TestCurrent(t *testing.T) {
	a, b := newCert(t, "A", nil), newCert(t, "B", nil)
	for name, c := range map[string]struct {
		text string
		err  error
		want int
		ok   bool
	}{
		"none":        {"", nil, 0, true},
		"two":         {pemOf(a, b), nil, 2, true},
		"no PEM":      {"nonsense", nil, 0, false},
		"unreachable": {pemOf(a), errors.New("503"), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := trust.NewPublisher(&distributor{text: c.text, err: c.err}, nil, clocktesting.NewFakePassiveClock(now))
			got, err := p.Current(t.Context(), "example.com/internal")
			if len(got) != c.want || (err == nil) != c.ok {
				t.Errorf("%d certificates, error %v", len(got), err)
			}
		})
	}
}
