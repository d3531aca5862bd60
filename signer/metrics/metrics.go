// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics counts what the signer signs and how its backends do. The names of the series are part of what is promised to those who
// watch them.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/breaker"
)

// Metrics are the signer's series. They are safe for concurrent use.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	calls    *prometheus.HistogramVec
	expiry   *prometheus.GaugeVec
	up       *prometheus.GaugeVec
	changes  *prometheus.CounterVec
	phase    *prometheus.GaugeVec
	ready    *prometheus.GaugeVec
}

// New registers the signer's metrics.
func New(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_signer_requests_total",
			Help: "Requests that the signer finished, by signerName and outcome (Issued, or the reason of the condition Failed or Denied).",
		}, []string{"signer", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "certwright_signer_issuance_seconds",
			Help:    "Time from the creation of a request to its certificate, by signerName. Creation is known to the second only.",
			Buckets: []float64{0.5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400},
		}, []string{"signer"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "certwright_signer_backend_seconds",
			Help:    "Latency of calls to backends, by signerName, backend and outcome (ok, permanent, pending, request for trouble that is the request's own, busy or down for no call at all, error).",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}, []string{"signer", "backend", "outcome"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "certwright_signer_ca_not_after_seconds",
			Help: "When the first CA certificate of a Signer's backends expires, in seconds since 1970, by signerName.",
		}, []string{"signer"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "certwright_signer_backend_up",
			Help: "1 while a backend serves, 0 while it is down or being tried, by signerName and backend.",
		}, []string{"signer", "backend"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_signer_backend_changes_total",
			Help: "Changes of a backend's state, by signerName, backend and what it became (Serving, Down, Probing).",
		}, []string{"signer", "backend", "state"}),
	}
	m.phase = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "certwright_signer_rotation_phase",
		Help: "How far the replacement of a backend's root is: 0 for none under way, 1 for Publishing, 2 for Signing; by signerName and backend.",
	}, []string{"signer", "backend"})
	m.ready = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "certwright_signer_ready",
		Help: "1 while a Signer can sign, 0 while it cannot, by signerName and the reason of its condition Ready: Ready, Degraded while a person should look all the same, or why it cannot.",
	}, []string{"signer", "reason"})
	registry.MustRegister(m.requests, m.seconds, m.calls, m.expiry, m.up, m.changes, m.phase, m.ready)
	return m
}

// Called notes that a backend was called, what came of it, and how long that took.
func (m *Metrics) Called(signerName, backend, outcome string, took time.Duration) {
	m.calls.WithLabelValues(signerName, backend, outcome).Observe(took.Seconds())
}

// Became notes what state a backend is in.
func (m *Metrics) Became(signerName, backend string, state breaker.State) {
	m.changes.WithLabelValues(signerName, backend, state.String()).Inc()
	m.Serves(signerName, backend, state)
}

func up(state breaker.State) float64 {
	if state == breaker.Serving {
		return 1
	}
	return 0
}

// Serves notes what state a backend is in that came into service.
func (m *Metrics) Serves(signerName, backend string, state breaker.State) {
	m.up.WithLabelValues(signerName, backend).Set(up(state))
}

// Left drops what is said of a backend that is no longer in service.
func (m *Metrics) Left(signerName, backend string) {
	m.up.DeleteLabelValues(signerName, backend)
	m.phase.DeleteLabelValues(signerName, backend)
}

// Issued notes that a request got its certificate, and how long after its creation.
func (m *Metrics) Issued(signerName string, took time.Duration) {
	m.requests.WithLabelValues(signerName, "Issued").Inc()
	m.seconds.WithLabelValues(signerName).Observe(took.Seconds())
}

// Failed notes that a request was refused for good, and for what reason.
func (m *Metrics) Failed(signerName, reason string) {
	m.requests.WithLabelValues(signerName, reason).Inc()
}

// CAExpires notes when the first CA certificate of a Signer's backends expires.
func (m *Metrics) CAExpires(signerName string, at time.Time) {
	m.expiry.WithLabelValues(signerName).Set(float64(at.Unix()))
}

// Rotates notes how far the replacement of a backend's root is; nil for none.
func (m *Metrics) Rotates(signerName, backend string, rotation *v1alpha1.Rotation) {
	phase := 0.0
	if rotation != nil {
		phase = map[v1alpha1.RotationPhase]float64{v1alpha1.RotationPublishing: 1, v1alpha1.RotationSigning: 2}[rotation.Phase]
	}
	m.phase.WithLabelValues(signerName, backend).Set(phase)
}

// Ready notes whether a Signer can sign, and the reason.
func (m *Metrics) Ready(signerName, reason string, ready bool) {
	value := 0.0
	if ready {
		value = 1
	}
	m.ready.WithLabelValues(signerName, reason).Set(value)
}

// NoLonger drops a reason that Ready noted of a Signer.
func (m *Metrics) NoLonger(signerName, reason string) { m.ready.DeleteLabelValues(signerName, reason) }

// Forget drops what CAExpires noted of a signerName that no Signer has any more.
func (m *Metrics) Forget(signerName string) { m.expiry.DeleteLabelValues(signerName) }
