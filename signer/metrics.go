// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"

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
}

// NewMetrics registers the signer's metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_signer_requests_total",
			Help: "Requests that the signer finished, by signerName and outcome (Issued, or the reason of the condition Failed).",
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
	registry.MustRegister(m.requests, m.seconds, m.calls, m.expiry, m.up, m.changes)
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
		}
	}
	if now != nil {
		for _, b := range now.members {
			m.up.WithLabelValues(now.signerName, b.name).Set(up(b.breaker.View().State))
		}
	}
}

func (m *Metrics) issued(object *certificatesv1.CertificateSigningRequest, now time.Time) {
	m.requests.WithLabelValues(object.Spec.SignerName, "Issued").Inc()
	m.seconds.WithLabelValues(object.Spec.SignerName).Observe(now.Sub(object.CreationTimestamp.Time).Seconds())
}

func (m *Metrics) failed(signerName, reason string) {
	m.requests.WithLabelValues(signerName, reason).Inc()
}

func (m *Metrics) caExpires(signerName string, at time.Time) {
	m.expiry.WithLabelValues(signerName).Set(float64(at.Unix()))
}

func (m *Metrics) forget(signerName string) { m.expiry.DeleteLabelValues(signerName) }
