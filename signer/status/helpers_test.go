// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/signer/internal/example"
	"github.com/certwright/certwright/signer/issue"
	"github.com/certwright/certwright/signer/member"
	"github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/signer/registry"
)

// watcher is what keeps the status of Signers, and what signs for them, before a fake API server.
type watcher struct {
	*publisher
	api     *example.Cluster
	status  *Reconciler
	signing *issue.Reconciler
	metrics *prometheus.Registry
	// backends are what the Signers' backends are, by name.
	backends example.Backends
}

func newWatcher(t *testing.T, signers ...*v1alpha1.Signer) *watcher {
	t.Helper()
	api := newCluster(t, signers)
	return watch(api, api.Clock)
}

func newCluster(t *testing.T, signers []*v1alpha1.Signer) *example.Cluster {
	t.Helper()
	var objects []client.Object
	for _, s := range signers {
		objects = append(objects, s)
	}
	return example.NewCluster(t, objects...)
}

// watch returns a watcher of the cluster, by a clock.
func watch(api *example.Cluster, clk clock.PassiveClock) *watcher {
	w := &watcher{publisher: &publisher{}, api: api, metrics: prometheus.NewRegistry(), backends: example.Backends{
		"local": example.Anchored{Backend: example.Honest, Anchors: []*x509.Certificate{example.Root.Certificate}},
	}}
	m, c := metrics.New(w.metrics), api.Client
	signers := registry.New(c, w.backends.New, clk, m)
	teller := event.Teller{Client: c, Component: "certwright-signer", Instance: "pod-0", Clock: clk}
	w.signing = &issue.Reconciler{
		Core: issue.NewCore(signers, m, clk), Client: c, Judge: judge.New(c, c, "cluster.local", "cluster.local"), Teller: teller,
	}
	w.status = &Reconciler{Client: c, Registry: signers, Publisher: w.publisher, Teller: teller, Metrics: m, Clock: clk}
	return w
}

// member returns a backend of the Signer.
func (w *watcher) member(t *testing.T, name string) *member.Member {
	t.Helper()
	s, err := w.status.Registry.Lookup(t.Context(), example.SignerName)
	if err != nil || s == nil {
		t.Fatalf("looking up the Signer: %v, error %v", s, err)
	}
	i := slices.IndexFunc(s.Members, func(m *member.Member) bool { return m.Name() == name })
	if i < 0 {
		t.Fatalf("the Signer has no backend %s", name)
	}
	return s.Members[i]
}

func (w *watcher) stored(t *testing.T) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	var stored certificatesv1.CertificateSigningRequest
	if err := w.api.Client.Get(t.Context(), client.ObjectKey{Name: "web"}, &stored); err != nil {
		t.Fatal(err)
	}
	return &stored
}

// count adds up a metric's series that have all of the label values.
func (w *watcher) count(t *testing.T, metric string, values ...string) float64 {
	t.Helper()
	return example.Count(t, w.metrics, metric, values...)
}

// reasons are those of Signers' conditions that the metrics have.
func (w *watcher) reasons(t *testing.T) (all []string) {
	t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "certwright_signer_ready" {
			for _, series := range family.GetMetric() {
				all = append(all, series.GetLabel()[0].GetValue())
			}
		}
	}
	return all
}

// publisher notes what is published and withdrawn.
type publisher struct {
	noting   sync.Mutex
	current  []*x509.Certificate
	calls    []string
	warnings []string
	err      error
}

func (p *publisher) Publish(_ context.Context, s *v1alpha1.Signer, anchors []*x509.Certificate) (string, []string, error) {
	call := "publish " + s.Spec.SignerName
	for _, a := range anchors {
		call += " " + a.Subject.CommonName
	}
	p.noting.Lock()
	defer p.noting.Unlock()
	p.calls = append(p.calls, call)
	return "configmap/" + s.Spec.SignerName, p.warnings, p.err
}

func (p *publisher) Current(context.Context, string) ([]*x509.Certificate, error) {
	return p.current, p.err
}

func (p *publisher) Withdraw(_ context.Context, signerName string) error {
	p.noting.Lock()
	defer p.noting.Unlock()
	p.calls = append(p.calls, "withdraw "+signerName)
	return p.err
}

// check looks at a Signer, after so long that everything is due.
func (w *watcher) check(t *testing.T, name string) (ctrl.Result, error) {
	t.Helper()
	w.api.Writes, w.calls = nil, nil
	w.api.Pass(2 * recheck) // probes are due then
	return w.status.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: name}})
}

func (w *watcher) signer(t *testing.T, name string) *v1alpha1.Signer {
	t.Helper()
	var s v1alpha1.Signer
	if err := w.api.Client.Get(t.Context(), client.ObjectKey{Name: name}, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func (w *watcher) wantReady(t *testing.T, name string, status metav1.ConditionStatus, reason, text string) {
	t.Helper()
	s := w.signer(t, name)
	c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, text) ||
		c.ObservedGeneration != s.Generation || s.Status.ObservedGeneration != s.Generation {
		t.Errorf("condition %+v, want %s %s with %q", c, status, reason, text)
	}
	want := 0.0
	if status == metav1.ConditionTrue {
		want = 1
	}
	if got := w.count(t, "certwright_signer_ready", s.Spec.SignerName, reason); got != want {
		t.Errorf("the metric says %v, want %v for %s", got, want, reason)
	}
}
