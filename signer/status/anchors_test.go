// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/verify"
)

// A bundle without the anchors of a backend would break those who verify what that backend signed. One that never signed anything must not
// keep the others from signing for ever, nor one that is away an administrator from adding another.
func TestTrustBundleWithoutABackend(t *testing.T) {
	unknown := &example.Able{Anchored: example.Anchored{Backend: example.Honest, Err: errors.New("503 sealed")}, Expires: example.Now}
	both := map[string]*x509.Certificate{"first": example.Root.Certificate, "second": example.Stranger.Certificate}
	second := map[string]*x509.Certificate{"second": example.Stranger.Certificate}
	published := []string{"publish " + example.SignerName + " root"}
	for name, c := range map[string]struct {
		second  signer.Backend
		before  map[string]*x509.Certificate // roots that the status knows
		current []*x509.Certificate          // in the published bundle
		calls   []string
		signs   map[string]bool
	}{
		"never known":                        {unknown, nil, nil, published, map[string]bool{"first": true, "second": false}},
		"it has none":                        {example.Backend(example.Honest), nil, nil, published, map[string]bool{"first": true, "second": true}},
		"known before a restart":             {unknown, both, []*x509.Certificate{example.Root.Certificate, example.Stranger.Certificate}, []string{published[0] + " root stranger"}, map[string]bool{"first": true, "second": false}},
		"the other one is new":               {unknown, second, []*x509.Certificate{example.Stranger.Certificate}, []string{published[0] + " stranger"}, map[string]bool{"first": true, "second": false}},
		"nothing is published any more":      {unknown, both, nil, nil, map[string]bool{"first": true, "second": false}},
		"its root is not published":          {unknown, both, []*x509.Certificate{example.Root.Certificate}, nil, map[string]bool{"first": true, "second": false}},
		"the same, and the other one is new": {unknown, second, []*x509.Certificate{example.Intermediate.Certificate}, nil, map[string]bool{"first": false, "second": false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := example.Signer("first", "second")
			s.Status.TrustBundle = "configmap/" + example.SignerName
			for _, name := range []string{"first", "second"} {
				if known := c.before[name]; known != nil {
					s.Status.Backends = append(s.Status.Backends, v1alpha1.BackendStatus{Name: name, Root: signer.Fingerprint(known)})
				}
			}
			w := newWatcher(t, s)
			w.backends["first"], w.backends["second"], w.publisher.current = example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate), c.second, c.current
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.calls, c.calls) {
				t.Errorf("calls %q, want %q", w.calls, c.calls)
			}
			for name, signs := range c.signs {
				if _, err := w.member(t, name).Sign(t.Context(), example.Granted(t)); (err == nil) != signs {
					t.Errorf("backend %s: may it sign? %v, want %t", name, err, signs)
				}
			}
		})
	}
	t.Run("what is published cannot be read", func(t *testing.T) {
		s := example.Signer("first", "second")
		s.Status.Backends = []v1alpha1.BackendStatus{{Name: "second", Root: signer.Fingerprint(example.Stranger.Certificate)}}
		w := newWatcher(t, s)
		w.backends["first"], w.backends["second"], w.publisher.err = example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate), unknown, errors.New("503")
		if _, err := w.check(t, "internal"); err == nil || len(w.calls) > 0 {
			t.Errorf("calls %q, error %v", w.calls, err)
		}
	})
}

// Whoever has only the bundle from before a backend was added, or its root replaced, could not verify what it signs.
func TestNothingIsSignedBeforeItsAnchorsArePublished(t *testing.T) {
	w := newWatcher(t, example.Signer("local"))
	for _, o := range []client.Object{example.Approved(t, nil), example.Policy()} {
		if err := w.api.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	w.backends["local"] = b
	w.publisher.err = errors.New("connection refused")
	ask := func(published bool) {
		t.Helper()
		_, _ = w.check(t, "internal")
		w.api.Writes = nil
		result, err := w.signing.Reconcile(t.Context(), w.stored(t))
		if wrote := slices.Contains(w.api.Writes, "patch status web"); wrote != published || (!published && result.RequeueAfter == 0 && err == nil) {
			t.Errorf("writes %q, result %v, error %v, want a certificate: %t", w.api.Writes, result, err, published)
		}
	}
	ask(false)
	b.Anchors = []*x509.Certificate{example.Stranger.Certificate} // another CA's, which does not sign
	w.publisher.err = nil
	ask(false)
	b.Anchors = []*x509.Certificate{example.Stranger.Certificate, example.Root.Certificate}
	ask(true)
}

// What an administrator has published besides, such as the root of another department, must not let a backend sign under it: a
// backend that is taken over could otherwise return certificates of that one.
func TestNothingIsVerifiedWithAddedAnchors(t *testing.T) {
	s := example.Signer("local")
	s.Spec.TrustBundle.Additional = []v1alpha1.TrustSource{{PEM: string(signer.EncodePEM(example.Stranger.Certificate))}}
	s.Spec.TrustBundle.PublicRoots = true
	w := newWatcher(t, s)
	for _, o := range []client.Object{example.Approved(t, nil), example.Policy()} {
		if err := w.api.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	under := example.Stranger
	b := example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	b.Backend = func(req csr.Request) ([]*x509.Certificate, error) {
		return []*x509.Certificate{example.Leaf(req, under, nil)}, nil
	}
	w.backends["local"] = b
	for _, signs := range []bool{false, true} {
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		w.api.Writes = nil
		_, _ = w.signing.Reconcile(t.Context(), w.stored(t))
		if wrote := slices.Contains(w.api.Writes, "patch status web"); wrote != signs {
			t.Errorf("writes %q, want a certificate: %t", w.api.Writes, signs)
		}
		under = example.Root
	}
}

// A mistake in what is added keeps nobody from signing.
func TestWarningsOfTheTrustBundle(t *testing.T) {
	w := newWatcher(t, example.Signer("local"))
	w.backends["local"] = example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	w.publisher.warnings = []string{"CN=Old expired", "CN=Leaf is no CA certificate"}
	for i := range 2 {
		if _, err := w.check(t, "internal"); err != nil {
			t.Fatal(err)
		}
		w.wantReady(t, "internal", metav1.ConditionTrue, ReasonDegraded, "trust bundle: CN=Old expired\ntrust bundle: CN=Leaf is no CA certificate")
		if i == 1 && len(w.api.Writes) > 0 {
			t.Errorf("writes %q, although nothing changed", w.api.Writes)
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
	s := example.Signer("local")
	w := newWatcher(t, s)
	w.backends["local"] = example.Backend(example.Honest)
	for _, c := range []struct {
		added  v1alpha1.TrustBundle
		calls  []string
		reason string
	}{
		{v1alpha1.TrustBundle{}, nil, ReasonReady},
		{v1alpha1.TrustBundle{PublicRoots: true}, []string{"publish " + example.SignerName}, ReasonReady},
		{v1alpha1.TrustBundle{Additional: []v1alpha1.TrustSource{{PEM: "x"}}}, []string{"publish " + example.SignerName}, ReasonDegraded},
	} {
		o := w.signer(t, "internal")
		o.Spec.TrustBundle = c.added
		if err := w.api.Client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, c.calls) {
			t.Errorf("with %+v: calls %q, error %v, want %q", c.added, w.calls, err, c.calls)
		}
		w.wantReady(t, "internal", metav1.ConditionTrue, c.reason, "")
	}
}

// The bundles of all Signers share one object in each namespace.
func TestBackendCannotTakeTheRoomOfOthers(t *testing.T) {
	large := example.NewCA("large", nil, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: bytes.Repeat([]byte{0}, 48<<10)}}
	})
	var many []*x509.Certificate
	for range 200 {
		many = append(many, example.Root.Certificate)
	}
	for name, anchors := range map[string][]*x509.Certificate{"a large one": {large.Certificate}, "many": many} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(t, example.Signer("hostile", "local"))
			w.backends["hostile"] = example.NewAble(example.Now.Add(time.Hour), anchors...)
			w.backends["local"] = example.NewAble(example.Now.Add(time.Hour), example.Stranger.Certificate)
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if want := []string{"publish " + example.SignerName + " stranger"}; !slices.Equal(w.calls, want) {
				t.Errorf("calls %.200q, want %q", w.calls, want)
			}
			b := w.signer(t, "internal").Status.Backends[0]
			if _, err := w.member(t, "hostile").Sign(t.Context(), example.Granted(t)); err == nil || !strings.Contains(b.Message, "it tells trust anchors of") {
				t.Errorf("it may sign (%v), and its status is %+v", err, b)
			}
		})
	}
}

// What the administrator says is trusted, whatever the backend tells.
func TestConfiguredTrustAnchorsHold(t *testing.T) {
	s := example.Signer("local")
	s.Spec.Backends[0].TrustAnchors = string(signer.EncodePEM(example.Root.Certificate))
	w := newWatcher(t, s)
	liar := example.NewAble(example.Now.Add(time.Hour), example.Stranger.Certificate)
	liar.Backend = example.Below(example.Stranger)
	w.backends["local"] = liar
	if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, []string{"publish " + example.SignerName + " root"}) {
		t.Errorf("calls %q, error %v", w.calls, err)
	}
	if _, err := w.member(t, "local").Sign(t.Context(), example.Granted(t)); !errors.Is(err, verify.ErrUnanchored) {
		t.Errorf("error %v, want that its chain leads elsewhere", err)
	}
	plain := example.Signer("local")
	plain.Spec.Backends[0].TrustAnchors = string(signer.EncodePEM(example.Root.Certificate))
	w = newWatcher(t, plain)
	w.backends["local"] = example.Backend(example.Honest) // knows nothing of anchors
	if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, []string{"publish " + example.SignerName + " root"}) {
		t.Errorf("calls %q, error %v", w.calls, err)
	}
	if chain, err := w.member(t, "local").Sign(t.Context(), example.Granted(t)); err != nil || len(chain) != 2 {
		t.Errorf("%d certificates, error %v", len(chain), err)
	}
}
