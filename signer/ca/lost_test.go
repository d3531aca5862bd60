// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
	"github.com/certwright/certwright/signer/status"
)

// bundle is a trust bundle: the anchors that were published last.
type bundle struct {
	anchors []*x509.Certificate
	// publish, if set, does what is done by a write.
	publish func(write func() error) error
	// behind are the places where it does not arrive.
	behind []string
}

func (b *bundle) Behind(context.Context, string) ([]string, error) { return b.behind, nil }

func (b *bundle) Publish(_ context.Context, _ *v1alpha1.Signer, anchors []*x509.Certificate) (string, []string, error) {
	if b.publish != nil && !slices.EqualFunc(anchors, b.anchors, (*x509.Certificate).Equal) {
		return "bundle", nil, b.publish(func() error { b.anchors = anchors; return nil })
	}
	b.anchors = anchors
	return "bundle", nil, nil
}

func (b *bundle) Current(context.Context, string) ([]*x509.Certificate, error) { return b.anchors, nil }

func (b *bundle) Withdraw(context.Context, string) error {
	return errors.New("nothing is withdrawn here")
}

// process is a signer with one backend, which keeps the status of the Signer.
type process struct {
	*ca.Backend
	*bundle
	w      *world
	status *status.Reconciler
	// others are other backends of the Signer, by name.
	others map[string]*ca.Backend
}

func (w *world) process(bundle *bundle) *process {
	p := &process{Backend: w.backend(w.client, w.config, false), bundle: bundle, w: w}
	m := metrics.New(prometheus.NewRegistry())
	signers := registry.New(w.client, func(c signer.BackendConfig) (signer.Backend, error) {
		if other := p.others[c.Backend.Name]; other != nil {
			return other, nil
		}
		return p.Backend, nil
	}, w.clock, m)
	p.status = &status.Reconciler{
		Client: w.client, Registry: signers, Publisher: bundle, Metrics: m, Clock: w.clock, Teller: event.Teller{Client: w.client, Clock: w.clock},
	}
	return p
}

// look has the process look after the Signer often enough to see all that there is, and returns the reason and the message of its
// condition, or of its backend if that is what the condition is about.
func (p *process) look() (reason, message string) {
	p.w.t.Helper()
	key := client.ObjectKey{Name: "internal"}
	for range 2 {
		p.w.clock.SetTime(p.w.clock.Now().Add(2 * time.Minute))
		_, _ = p.status.Reconcile(p.w.t.Context(), ctrl.Request{NamespacedName: key}) // what is wrong is in the condition
	}
	current := p.w.signer().Status
	ready := meta.FindStatusCondition(current.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		p.w.t.Fatal("the Signer has no condition")
	}
	if ready.Reason == status.ReasonDegraded {
		return current.Backends[0].Reason, current.Backends[0].Message
	}
	return ready.Reason, ready.Message
}

func (w *world) signer() *v1alpha1.Signer {
	w.t.Helper()
	var s v1alpha1.Signer
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: "internal"}, &s); err != nil {
		w.t.Fatal(err)
	}
	return &s
}

func (w *world) annotate(value string) {
	w.t.Helper()
	s := w.signer()
	s.Annotations = map[string]string{"certwright.dev/new-ca": value}
	if err := w.client.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) loseSecret() {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), w.secret(secretName)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) hasSecret() bool {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: secretName}, &corev1.Secret{})
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	return !apierrors.IsNotFound(err)
}

func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }

// Whoever deletes the Secret of a managed CA, by mistake or not, must not thereby get a new root into everybody's trust
// bundle, and the old one out of it.
func TestLostSecretIsNotMadeAnew(t *testing.T) {
	w := newWorld(t, managed(), false)
	published := &bundle{}
	leader := w.process(published)
	if reason, message := leader.look(); reason != status.ReasonReady {
		t.Fatalf("at first: %s, %s", reason, message)
	}
	root, backup := published.anchors[0], w.secret(secretName)
	known := w.signer().Status.Backends
	if len(known) != 1 || known[0].Name != "local" || known[0].Root != fingerprint(root) {
		t.Fatalf("the status knows %v, want the root %s", known, fingerprint(root))
	}
	w.loseSecret()

	// The process that has the CA signs with it.
	if reason, message := leader.look(); reason != "ServingLastGoodCA" || !strings.Contains(message, "restore the Secret from a backup") {
		t.Errorf("the leader says %s: %s", reason, message)
	}
	if _, err := leader.Sign(t.Context(), w.request(time.Hour)); err != nil {
		t.Errorf("the leader does not sign: %v", err)
	}
	// One that begins now has none, however often it looks.
	follower := w.process(published)
	for range 3 {
		reason, message := follower.look()
		if want := "kubectl annotate --overwrite signers.certwright.dev internal certwright.dev/new-ca=" + fingerprint(root); reason != "CASecretLost" || !strings.Contains(message, want) {
			t.Errorf("the follower says %s: %s, want %s", reason, message, want)
		}
		_, err := follower.Sign(t.Context(), w.request(time.Hour))
		wantTrouble(t, err)
	}
	current := w.signer().Status
	if w.hasSecret() || !published.anchors[0].Equal(root) || current.CANotAfter == nil || len(current.Backends) != 1 ||
		current.Backends[0].Root != known[0].Root || !current.Backends[0].CANotAfter.Equal(known[0].CANotAfter) {
		t.Errorf("a Secret: %t, status %v: the old CA was forgotten", w.hasSecret(), current)
	}

	backup.ResourceVersion = ""
	if err := w.client.Create(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*process{"leader": leader, "follower": follower} {
		if reason, message := p.look(); reason != status.ReasonReady || !published.anchors[0].Equal(root) {
			t.Errorf("the %s says after the Secret was restored: %s, %s", name, reason, message)
		}
	}
}

func TestNewCAAfterALoss(t *testing.T) {
	w := newWorld(t, managed(), false)
	published := &bundle{}
	leader := w.process(published)
	leader.look()
	first, another := published.anchors[0], w.mustSign(time.Hour)[0]

	w.loseSecret()
	for what, value := range map[string]string{"nothing": "", "a word": "true", "another certificate": fingerprint(another)} {
		w.annotate(value)
		if reason, _ := leader.look(); reason != "ServingLastGoodCA" || w.hasSecret() {
			t.Errorf("annotated with %s it says %s, with a Secret: %t", what, reason, w.hasSecret())
		}
	}
	w.annotate(fingerprint(first))
	if reason, message := leader.look(); reason != status.ReasonReady {
		t.Fatalf("with a person's word it says %s: %s", reason, message)
	}
	second := published.anchors[0]
	if second.Equal(first) || w.signer().Status.Backends[0].Root != fingerprint(second) {
		t.Errorf("no new root is published, or the status does not know it")
	}
	// What was said about the first root says nothing about the second.
	w.loseSecret()
	if reason, _ := w.process(published).look(); reason != "CASecretLost" || w.hasSecret() {
		t.Errorf("after the second loss: %s, with a Secret: %t", reason, w.hasSecret())
	}
}

func TestNewCAWhenTheLostOneIsOver(t *testing.T) {
	w := newWorld(t, managed(), false)
	published := &bundle{}
	w.process(published).look()
	first := published.anchors[0]
	w.loseSecret()
	w.clock.SetTime(w.signer().Status.CANotAfter.Time)
	if reason, message := w.process(published).look(); reason != status.ReasonReady || published.anchors[0].Equal(first) {
		t.Errorf("it says %s: %s", reason, message)
	}
}

// Without the Signer, nobody knows whether there was a CA.
func TestNoCAForASignerThatIsGone(t *testing.T) {
	w := newWorld(t, managed(), false)
	if err := w.client.Delete(t.Context(), w.signer()); err != nil {
		t.Fatal(err)
	}
	_, err := w.rotate()
	if wantTrouble(t, err); w.hasSecret() {
		t.Errorf("a CA was made: %v", err)
	}
}
