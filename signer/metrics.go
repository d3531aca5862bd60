// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/breaker"
)

// Metrics count what the signer signs and how its backends do.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	calls    *prometheus.HistogramVec
	expiry   *prometheus.GaugeVec
	up       *prometheus.GaugeVec
	changes  *prometheus.CounterVec
	phase    *prometheus.GaugeVec
}

// NewMetrics registers the signer's metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
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
	registry.MustRegister(m.requests, m.seconds, m.calls, m.expiry, m.up, m.changes, m.phase)
	return m
}

func (m *Metrics) called(signerName, backend string, err error, took time.Duration) {
	outcome := "ok"
	var permanent *PermanentError
	var pending *PendingError
	var own *RequestError
	var busy busyError
	var down *breaker.DownError
	switch {
	case err == nil:
	case errors.As(err, &permanent):
		outcome = "permanent"
	case errors.As(err, &pending):
		outcome = "pending"
	case errors.As(err, &own):
		outcome = "request"
	case errors.As(err, &busy):
		outcome = "busy"
	case errors.As(err, &down):
		outcome = "down"
	default:
		outcome = "error"
	}
	m.calls.WithLabelValues(signerName, backend, outcome).Observe(took.Seconds())
}

// became notes what state a backend is in.
func (m *Metrics) became(signerName, backend string, state breaker.State) {
	m.changes.WithLabelValues(signerName, backend, state.String()).Inc()
	m.up.WithLabelValues(signerName, backend).Set(up(state))
}

func up(state breaker.State) float64 {
	if state == breaker.Serving {
		return 1
	}
	return 0
}

// backends notes the backends that a Signer has now, and drops those that it had before; each Signer may be nil.
func (m *Metrics) backends(before, now *Signer) {
	if before != nil {
		for _, b := range before.members {
			m.up.DeleteLabelValues(before.signerName, b.name)
			m.phase.DeleteLabelValues(before.signerName, b.name)
		}
	}
	if now != nil {
		for _, b := range now.members {
			m.up.WithLabelValues(now.signerName, b.name).Set(up(b.breaker.View().State))
		}
	}
}

func (m *Metrics) issued(signerName string, took time.Duration) {
	m.requests.WithLabelValues(signerName, "Issued").Inc()
	m.seconds.WithLabelValues(signerName).Observe(took.Seconds())
}

func (m *Metrics) failed(signerName, reason string) {
	m.requests.WithLabelValues(signerName, reason).Inc()
}

func (m *Metrics) caExpires(signerName string, at time.Time) {
	m.expiry.WithLabelValues(signerName).Set(float64(at.Unix()))
}

// rotates notes how far the replacement of a backend's root is; nil for none.
func (m *Metrics) rotates(signerName, backend string, rotation *v1alpha1.Rotation) {
	phase := 0.0
	if rotation != nil {
		phase = map[v1alpha1.RotationPhase]float64{v1alpha1.RotationPublishing: 1, v1alpha1.RotationSigning: 2}[rotation.Phase]
	}
	m.phase.WithLabelValues(signerName, backend).Set(phase)
}

func (m *Metrics) forget(signerName string) { m.expiry.DeleteLabelValues(signerName) }
