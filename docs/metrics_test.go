// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	agentmetrics "github.com/certwright/certwright/agent/metrics"
	"github.com/certwright/certwright/approver"
	signermetrics "github.com/certwright/certwright/signer/metrics"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/mutation"
)

// metricRow matches a metric in a table of operations.md, and what stands beside it: its labels and, after a colon, what it says.
var metricRow = regexp.MustCompile("(?m)^\\| `(certwright_[a-z_]+)` \\| ([^|]*)\\|$")

// TestMetricsAreThoseOfThePrograms holds the tables of operations.md against what the programs register: every metric is there, with its
// labels, and no other.
func TestMetricsAreThoseOfThePrograms(t *testing.T) {
	text, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(text), -1) {
		labels, _, _ := strings.Cut(strings.TrimSpace(row[2]), ":")
		if strings.HasPrefix(row[1], "certwright_agent_") {
			labels = "" // its table has no labels
		}
		said[row[1]] = labels
	}
	metrics := registered(t)
	maps.Copy(metrics, servedByAgents(t))
	for name, labels := range metrics {
		if got, ok := said[name]; !ok || got != labels {
			t.Errorf("operations.md says that %s has the labels %q (in a table: %t), the program says %q", name, got, ok, labels)
		}
	}
	for name := range said {
		if _, ok := metrics[name]; !ok {
			t.Errorf("operations.md names %s, which no program has", name)
		}
	}
}

// description matches how a prometheus.Desc writes itself, which says nothing of it otherwise.
var description = regexp.MustCompile(`fqName: "([a-z_]+)".*variableLabels: \{([a-z_,]*)\}`)

// registered are the metrics of approver, signer and webhook, with their labels.
func registered(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	add := func(c prometheus.Collector) {
		all := make(chan *prometheus.Desc, 10)
		c.Describe(all)
		close(all)
		for d := range all {
			match := description.FindStringSubmatch(d.String())
			if match == nil {
				t.Fatalf("a metric describes itself as %s", d)
			}
			found[match[1]] = strings.ReplaceAll(match[2], ",", ", ")
		}
	}
	r := registerer(add)
	approver.NewMetrics(r)
	signermetrics.New(r)
	mutator := mutation.Mutator{AgentImage: "agent", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", Trust: distribution.ConfigMap}
	if _, err := mutation.NewHandler(mutator, nil, clock.RealClock{}, r); err != nil {
		t.Fatal(err)
	}
	return found
}

// registerer is given what others register.
type registerer func(prometheus.Collector)

func (r registerer) Register(c prometheus.Collector) error { r(c); return nil }

func (r registerer) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		r(c)
	}
}

func (r registerer) Unregister(prometheus.Collector) bool { return false }

// servedByAgents are the metrics of an agent. They have no labels.
func servedByAgents(t *testing.T) map[string]string {
	t.Helper()
	recorder := httptest.NewRecorder()
	new(agentmetrics.Metrics).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	found := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^# TYPE ([a-z_]+) `).FindAllStringSubmatch(recorder.Body.String(), -1) {
		found[match[1]] = ""
	}
	if len(found) < 5 {
		t.Fatalf("an agent serves only %v", slices.Sorted(maps.Keys(found)))
	}
	return found
}
