// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/quota"
)

// Metrics count what the approver decides and writes.
type Metrics struct {
	decisions  *prometheus.CounterVec
	violations *prometheus.CounterVec
	writes     *prometheus.CounterVec
	quotas     *prometheus.CounterVec
	audits     *prometheus.CounterVec
}

// NewMetrics registers the approver's metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_approver_policy_evaluations_total",
			Help: "Evaluations of policy for pending requests, by signerName and verdict (Permit, Deny, NoOpinion).",
		}, []string{"signer", "verdict"}),
		violations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_approver_policy_violations_total",
			Help: "Fields that policies did not allow in denied requests, by policy and field.",
		}, []string{"policy", "field"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_approver_requests_total",
			Help: "Requests that the approver approved or denied, by signerName and outcome (Approved, Denied).",
		}, []string{"signer", "outcome"}),
		quotas: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_approver_quota_waits_total",
			Help: "Looks at permitted requests that ended in waiting for a quota, by policy and whom the quota counts together (per).",
		}, []string{"policy", "per"}),
		audits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certwright_policy_audits_total",
			Help: "Requests that policies in mode Audit spoke of, by policy and what it would have decided (outcome: Permit, Deny).",
		}, []string{"policy", "outcome"}),
	}
	registry.MustRegister(m.decisions, m.violations, m.writes, m.quotas, m.audits)
	return m
}

func (m *Metrics) decided(signerName string, d policy.Decision) {
	m.decisions.WithLabelValues(signerName, d.Verdict.String()).Inc()
	for _, denial := range d.Denials {
		for _, v := range denial.Violations {
			m.violations.WithLabelValues(denial.Policy, v.Field).Inc()
		}
	}
}

func (m *Metrics) queued(w *quota.Wait) {
	m.quotas.WithLabelValues(w.Policy, string(w.Quota.Per)).Inc()
}

func (m *Metrics) audited(a policy.Audit) {
	outcome := policy.Permit
	if len(a.Violations) > 0 {
		outcome = policy.Deny
	}
	m.audits.WithLabelValues(a.Policy, outcome.String()).Inc()
}

func (m *Metrics) wrote(signerName string, condition certificatesv1.RequestConditionType) {
	m.writes.WithLabelValues(signerName, string(condition)).Inc()
}
