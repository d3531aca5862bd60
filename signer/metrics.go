// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
)

// Metrics count what the signer signs and how its backends do.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	calls    *prometheus.HistogramVec
	expiry   *prometheus.GaugeVec
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
			Help:    "Latency of calls to backends, by signerName, backend and outcome (ok, permanent, pending, error).",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}, []string{"signer", "backend", "outcome"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "certwright_signer_ca_not_after_seconds",
			Help: "When the first CA certificate of a Signer's backends expires, in seconds since 1970, by signerName.",
		}, []string{"signer"}),
	}
	registry.MustRegister(m.requests, m.seconds, m.calls, m.expiry)
	return m
}

func (m *Metrics) called(signerName, backend string, err error, took time.Duration) {
	outcome := "ok"
	if permanent := (*PermanentError)(nil); errors.As(err, &permanent) {
		outcome = "permanent"
	} else if pending := (*PendingError)(nil); errors.As(err, &pending) {
		outcome = "pending"
	} else if err != nil {
		outcome = "error"
	}
	m.calls.WithLabelValues(signerName, backend, outcome).Observe(took.Seconds())
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
