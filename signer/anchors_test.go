// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// A bundle without the anchors of a backend would break those who verify what that backend signed. One that never signed anything must not
// keep the others from signing for ever, nor one that is away an administrator from adding another.
func TestTrustBundleWithoutABackend(t *testing.T) {
	unknown := &able{anchored: anchored{backend: honest, err: errors.New("503 sealed")}, notAfter: now}
	both := map[string]*x509.Certificate{"first": root.Certificate, "second": stranger.Certificate}
	second := map[string]*x509.Certificate{"second": stranger.Certificate}
	published := []string{"publish " + signerName + " root"}
	for name, c := range map[string]struct {
		second  Backend
		before  map[string]*x509.Certificate // roots that the status knows
		current []*x509.Certificate          // in the published bundle
		calls   []string
		signs   map[string]bool
	}{
		"never known":                        {unknown, nil, nil, published, map[string]bool{"first": true, "second": false}},
		"it has none":                        {backend(honest), nil, nil, published, map[string]bool{"first": true, "second": true}},
		"known before a restart":             {unknown, both, []*x509.Certificate{root.Certificate, stranger.Certificate}, []string{published[0] + " root stranger"}, map[string]bool{"first": true, "second": false}},
		"the other one is new":               {unknown, second, []*x509.Certificate{stranger.Certificate}, []string{published[0] + " stranger"}, map[string]bool{"first": true, "second": false}},
		"nothing is published any more":      {unknown, both, nil, nil, map[string]bool{"first": true, "second": false}},
		"its root is not published":          {unknown, both, []*x509.Certificate{root.Certificate}, nil, map[string]bool{"first": true, "second": false}},
		"the same, and the other one is new": {unknown, second, []*x509.Certificate{intermediate.Certificate}, nil, map[string]bool{"first": false, "second": false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner("first", "second")
			s.Status.TrustBundle = "configmap/" + signerName
			for _, name := range []string{"first", "second"} {
				if known := c.before[name]; known != nil {
					s.Status.Backends = append(s.Status.Backends, v1alpha1.BackendStatus{Name: name, Root: Fingerprint(known)})
				}
			}
			w := newWatcher(t, s)
			w.backends["first"], w.backends["second"], w.publisher.current = newAble(now.Add(time.Hour), root.Certificate), c.second, c.current
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.calls, c.calls) {
				t.Errorf("calls %q, want %q", w.calls, c.calls)
			}
			for name, signs := range c.signs {
				if _, err := w.member(t, name).verifyWith(); (err == nil) != signs {
					t.Errorf("backend %s: may it sign? %v, want %t", name, err, signs)
				}
			}
		})
	}
	t.Run("what is published cannot be read", func(t *testing.T) {
		s := newSigner("first", "second")
		s.Status.Backends = []v1alpha1.BackendStatus{{Name: "second", Root: Fingerprint(stranger.Certificate)}}
		w := newWatcher(t, s)
		w.backends["first"], w.backends["second"], w.publisher.err = newAble(now.Add(time.Hour), root.Certificate), unknown, errors.New("503")
		if _, err := w.check(t, "internal"); err == nil || len(w.calls) > 0 {
			t.Errorf("calls %q, error %v", w.calls, err)
		}
	})
}

// Whoever has only the bundle from before a backend was added, or its root replaced, could not verify what it signs.
func TestNothingIsSignedBeforeItsAnchorsArePublished(t *testing.T) {
	w := newWatcher(t, newSigner("local"))
	for _, o := range []client.Object{approved(t, nil), newPolicy()} {
		if err := w.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	b := newAble(now.Add(time.Hour), root.Certificate)
	w.backends["local"] = b
	w.publisher.err = errors.New("connection refused")
	ask := func(published bool) {
		t.Helper()
		_, _ = w.check(t, "internal")
		w.writes = nil
		result, err := w.Reconcile(t.Context(), w.stored(t))
		if wrote := slices.Contains(w.writes, "patch status web"); wrote != published || (!published && result.RequeueAfter == 0 && err == nil) {
			t.Errorf("writes %q, result %v, error %v, want a certificate: %t", w.writes, result, err, published)
		}
	}
	ask(false)
	b.anchors = []*x509.Certificate{stranger.Certificate} // another CA's, which does not sign
	w.publisher.err = nil
	ask(false)
	b.anchors = []*x509.Certificate{stranger.Certificate, root.Certificate}
	ask(true)
}

// A server that was set up anew has another root. Its chains led elsewhere, so it may be down: it is probed as soon as the new root is
// known, and serves with it.
func TestAnotherRootIsProbedAtOnce(t *testing.T) {
	w := newWatcher(t, newSigner("local"))
	b := newAble(now.Add(time.Hour), root.Certificate)
	w.backends["local"] = b
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	b.backend = below(stranger)
	m := w.member(t, "local")
	for range 6 {
		_, _ = m.sign(t.Context(), permitted(t))
	}
	for range 5 {
		m.breaker.Probed(errors.New("503 sealed"))
	}
	b.anchors = []*x509.Certificate{stranger.Certificate}
	m.learn(t.Context())
	if v := m.breaker.View(); v.Next.After(w.clock.Now()) {
		t.Errorf("it is probed at %s, now is %s", v.Next, w.clock.Now())
	}
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	if chain, err := m.sign(t.Context(), permitted(t)); err != nil || len(chain) != 1 {
		t.Errorf("%d certificates, error %v", len(chain), err)
	}
}

// What an administrator has published besides, such as the root of another department, must not let a backend sign under it: a
// backend that is taken over could otherwise return certificates of that one.
func TestNothingIsVerifiedWithAddedAnchors(t *testing.T) {
	s := newSigner("local")
	s.Spec.TrustBundle.Additional = []v1alpha1.TrustSource{{PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Raw}))}}
	s.Spec.TrustBundle.PublicRoots = true
	w := newWatcher(t, s)
	for _, o := range []client.Object{approved(t, nil), newPolicy()} {
		if err := w.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	under := stranger
	b := newAble(now.Add(time.Hour), root.Certificate)
	b.backend = func(req csr.Request) ([]*x509.Certificate, error) {
		return []*x509.Certificate{mint(req, under, nil)}, nil
	}
	w.backends["local"] = b
	for _, signs := range []bool{false, true} {
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		w.writes = nil
		_, _ = w.Reconcile(t.Context(), w.stored(t))
		if wrote := slices.Contains(w.writes, "patch status web"); wrote != signs {
			t.Errorf("writes %q, want a certificate: %t", w.writes, signs)
		}
		under = root
	}
}

// A mistake in what is added keeps nobody from signing.
func TestWarningsOfTheTrustBundle(t *testing.T) {
	w := newWatcher(t, newSigner("local"))
	w.backends["local"] = newAble(now.Add(time.Hour), root.Certificate)
	w.publisher.warnings = []string{"CN=Old expired", "CN=Leaf is no CA certificate"}
	for i := range 2 {
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		w.wantReady(t, "internal", metav1.ConditionTrue, ReasonDegraded, "trust bundle: CN=Old expired\ntrust bundle: CN=Leaf is no CA certificate")
		if i == 1 && len(w.writes) > 0 {
			t.Errorf("writes %q, although nothing changed", w.writes)
		}
	}
	w.publisher.warnings, w.publisher.err = nil, errors.New("too large")
	if _, err := w.check(t, "internal"); err == nil {
		t.Error("no error")
	}
	w.wantReady(t, "internal", metav1.ConditionTrue, ReasonDegraded, "publishing the trust bundle: too large")
	w.publisher.err = nil
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	w.wantReady(t, "internal", metav1.ConditionTrue, ReasonReady, "")
}

// A Signer of a public CA has no anchors to tell, and may have public roots published.
func TestTrustBundleOfAddedAnchorsAlone(t *testing.T) {
	s := newSigner("local")
	w := newWatcher(t, s)
	w.backends["local"] = backend(honest)
	for _, c := range []struct {
		added  v1alpha1.TrustBundle
		calls  []string
		reason string
	}{
		{v1alpha1.TrustBundle{}, nil, ReasonReady},
		{v1alpha1.TrustBundle{PublicRoots: true}, []string{"publish " + signerName}, ReasonReady},
		{v1alpha1.TrustBundle{Additional: []v1alpha1.TrustSource{{PEM: "x"}}}, []string{"publish " + signerName}, ReasonDegraded},
	} {
		o := w.signer(t, "internal")
		o.Spec.TrustBundle = c.added
		if err := w.Client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, c.calls) {
			t.Errorf("with %+v: calls %q, error %v, want %q", c.added, w.calls, err, c.calls)
		}
		w.wantReady(t, "internal", metav1.ConditionTrue, c.reason, "")
	}
}

func TestCheckOfAddedAnchors(t *testing.T) {
	made := func(BackendConfig) (Backend, error) { return backend(honest), nil }
	s := newSigner("local")
	s.Spec.TrustBundle.Additional = []v1alpha1.TrustSource{
		{PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))},
		{SecretRef: &v1alpha1.SecretKeyRef{Name: "roots", Key: "ca.crt"}},
	}
	if err := Check(s, made); err != nil {
		t.Errorf("got %v", err)
	}
	s.Spec.TrustBundle.Additional = append(s.Spec.TrustBundle.Additional, v1alpha1.TrustSource{PEM: "no certificate"})
	s.Spec.TrustBundle.ConfigMap = &v1alpha1.TrustConfigMaps{NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"not a label": ""}}}
	for _, reason := range []string{ReasonTrustIncomplete, ReasonBackendInvalid} {
		err := Check(s, made)
		if reasonOf(err) != reason || !strings.Contains(err.Error(), "spec.trustBundle.additional[2].pem") || !strings.Contains(err.Error(), "spec.trustBundle.configMap.namespaceSelector") {
			t.Errorf("got %v, want the reason %s and both fields", err, reason)
		}
		s.Spec.Backends = nil
	}
}

// The bundles of all Signers share one object in each namespace.
func TestBackendCannotTakeTheRoomOfOthers(t *testing.T) {
	large := newAuthority("large", nil, func(c *template) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: bytes.Repeat([]byte{0}, maxAnchorBytes)}}
	})
	var many []*x509.Certificate
	for range 200 {
		many = append(many, root.Certificate)
	}
	for name, anchors := range map[string][]*x509.Certificate{"a large one": {large.Certificate}, "many": many} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, newSigner("hostile", "local"))
			w.backends["hostile"] = newAble(now.Add(time.Hour), anchors...)
			w.backends["local"] = newAble(now.Add(time.Hour), stranger.Certificate)
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if want := []string{"publish " + signerName + " stranger"}; !slices.Equal(w.calls, want) {
				t.Errorf("calls %.200q, want %q", w.calls, want)
			}
			b := w.signer(t, "internal").Status.Backends[0]
			if _, err := w.member(t, "hostile").verifyWith(); err == nil || !strings.Contains(b.Message, "it tells trust anchors of") {
				t.Errorf("it may sign (%v), and its status is %+v", err, b)
			}
		})
	}
}
