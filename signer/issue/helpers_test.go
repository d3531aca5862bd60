// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"crypto/x509"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	eventsv1 "k8s.io/api/events/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
)

// world is a signer with a real judge before a fake API server.
type world struct {
	*Reconciler
	api      *example.Cluster
	registry *prometheus.Registry
	// backends are what the Signer's backends are, by name.
	backends example.Backends
}

func newWorld(t testing.TB, objects ...client.Object) *world {
	t.Helper()
	w := &world{api: example.NewCluster(t, objects...), registry: prometheus.NewRegistry(), backends: example.Backends{
		"local": example.Anchored{Backend: example.Honest, Anchors: []*x509.Certificate{example.Root.Certificate}},
	}}
	m, c := metrics.New(w.registry), w.api.Client
	w.Reconciler = &Reconciler{
		Core:   NewCore(registry.New(c, w.backends.New, w.api.Clock, m), m, w.api.Clock),
		Client: c, Judge: judge.New(c, c, "cluster.local", "cluster.local"),
		Teller: event.Teller{Client: c, Component: "certwright-signer", Instance: "pod-0", Clock: w.api.Clock},
	}
	return w
}

// member returns the first backend of the Signer.
func (w *world) member(t *testing.T) *member.Member {
	t.Helper()
	s, err := w.Registry.Lookup(t.Context(), example.SignerName)
	if err != nil || s == nil {
		t.Fatalf("looking up the Signer: %v, error %v", s, err)
	}
	return s.Members[0]
}

// publish has verifiers trust the anchors of those backends of the Signer that know them.
func (w *world) publish(t *testing.T) {
	t.Helper()
	s, err := w.Registry.Lookup(t.Context(), example.SignerName)
	if err != nil || s == nil {
		return // there is nothing to publish
	}
	for _, m := range s.Members {
		m.Inspect(t.Context(), v1alpha1.BackendStatus{}, false)
		m.Trust(m.Anchors())
	}
}

// count adds up a metric's series that have all of the label values.
func (w *world) count(t *testing.T, metric string, values ...string) float64 {
	t.Helper()
	return example.Count(t, w.registry, metric, values...)
}

// reconcile reads the request, as the controller does, and reconciles it once the trust bundle is published.
func (w *world) reconcile(t *testing.T) (ctrl.Result, error) {
	t.Helper()
	w.publish(t)
	return w.Reconcile(t.Context(), w.stored(t))
}

func (w *world) stored(t *testing.T) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	var stored certificatesv1.CertificateSigningRequest
	if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "web"}, &stored); err != nil {
		t.Fatal(err)
	}
	return &stored
}

// event returns the one event that was told.
func (w *world) event(t *testing.T) eventsv1.Event {
	t.Helper()
	var list eventsv1.EventList
	if err := w.Client.List(t.Context(), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d events, error %v, want one event", len(list.Items), err)
	}
	return list.Items[0]
}
