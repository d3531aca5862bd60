// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/breaker"
	"github.com/certwright/certwright/signer/internal/example"
)

// Dashboards and alerts rest on the names, and on what is said of a backend ending when it is no longer used.
func TestSeries(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := New(registry)
	m.Issued("example.com/a", time.Second)
	m.Failed("example.com/a", "PolicyDenies")
	m.Called("example.com/a", "local", "ok", time.Millisecond)
	m.CAExpires("example.com/a", time.Unix(1000, 0))
	m.Became("example.com/a", "local", breaker.Down)
	m.Ready("example.com/a", "Degraded", true)
	m.Ready("example.com/b", "CAExpired", false)
	m.Rotates("example.com/a", "local", &v1alpha1.Rotation{Phase: v1alpha1.RotationSigning})
	for _, c := range []struct {
		name   string
		labels []string
		want   float64 // of a histogram, how often something was observed
	}{
		{"certwright_signer_requests_total", []string{"Issued"}, 1},
		{"certwright_signer_requests_total", []string{"PolicyDenies"}, 1},
		{"certwright_signer_issuance_seconds", nil, 1},
		{"certwright_signer_backend_seconds", []string{"local", "ok"}, 1},
		{"certwright_signer_ca_not_after_seconds", nil, 1000},
		{"certwright_signer_backend_up", []string{"local"}, 0},
		{"certwright_signer_backend_changes_total", []string{"local", "Down"}, 1},
		{"certwright_signer_rotation_phase", []string{"local"}, 2},
		{"certwright_signer_ready", []string{"Degraded"}, 1},
	} {
		if got := example.Count(t, registry, c.name, append(c.labels, "example.com/a")...); got != c.want {
			t.Errorf("%s of %q is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	m.Serves("example.com/a", "local", breaker.Serving)
	if up := example.Count(t, registry, "certwright_signer_backend_up", "local"); up != 1 {
		t.Errorf("%v backends are up, want one", up)
	}
	m.Left("example.com/a", "local")
	m.NoLonger("example.com/a", "Degraded")
	m.Forget("example.com/a")
	for _, name := range []string{"certwright_signer_ca_not_after_seconds", "certwright_signer_backend_up", "certwright_signer_rotation_phase", "certwright_signer_ready"} {
		if got := example.Count(t, registry, name); got != 0 {
			t.Errorf("%s is still %v", name, got)
		}
	}
}
