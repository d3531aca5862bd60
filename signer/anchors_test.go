// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// A bundle without the anchors of a backend would break those who verify what that backend signed. One that never signed anything must not
// keep the others from signing for ever.
func TestTrustBundleWithoutABackend(t *testing.T) {
	unknown := &able{anchored: anchored{backend: honest, err: errors.New("503 sealed")}, notAfter: now}
	for name, c := range map[string]struct {
		second Backend
		known  bool // before, as the status says
		calls  []string
		bundle string
		signs  map[string]bool
	}{
		"never known": {unknown, false, []string{"publish " + signerName + " root"}, "configmap/" + signerName, map[string]bool{"first": true, "second": false}},
		"known before a restart, with one known as well": {unknown, true, nil, "configmap/before", map[string]bool{"first": true, "second": false}},
		"it has none": {backend(honest), false, []string{"publish " + signerName + " root"}, "configmap/" + signerName, map[string]bool{"first": true, "second": true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner("first", "second")
			s.Status.TrustBundle = "configmap/before"
			if c.known {
				s.Status.Backends = []v1alpha1.BackendStatus{{Name: "first", Root: fingerprint(root.Certificate)}, {Name: "second", Root: fingerprint(stranger.Certificate)}}
			}
			w := newWatcher(t, s)
			w.backends["first"], w.backends["second"] = newAble(now.Add(time.Hour), root.Certificate), c.second
			if _, err := w.check(t, "internal"); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.calls, c.calls) {
				t.Errorf("calls %q, want %q", w.calls, c.calls)
			}
			if got := w.signer(t, "internal").Status.TrustBundle; got != c.bundle {
				t.Errorf("trustBundle is %q, want %q", got, c.bundle)
			}
			for name, signs := range c.signs {
				if _, err := w.member(t, name).verifyWith(); (err == nil) != signs {
					t.Errorf("backend %s: may it sign? %v, want %t", name, err, signs)
				}
			}
		})
	}
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
