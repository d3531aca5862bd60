// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package alerts tests the alerts of manifests/examples with the parser and the engine of Prometheus. It is a module of its own, so that
// Prometheus stays out of the main one.
package alerts

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const (
	alertsFile = "../../manifests/examples/alerts.yaml"
	guideFile  = "../../docs/operations.md"
)

// foreign are the metrics of others, with their labels.
var foreign = map[string][]string{
	"leader_election_master_status": {"name"},                 // controller-runtime
	"kubelet_podcertificate_states": {"signer_name", "state"}, // kubelets that serve pod certificates
}

// rules are the alerts of the example, in their order.
func rules(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	var object struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       map[string]any `json:"spec"`
	}
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		t.Fatal(err)
	}
	if object.APIVersion != "monitoring.coreos.com/v1" || object.Kind != "PrometheusRule" {
		t.Fatalf("%s of %s, want a PrometheusRule of monitoring.coreos.com/v1", object.Kind, object.APIVersion)
	}
	spec, err := yaml.Marshal(object.Spec)
	if err != nil {
		t.Fatal(err)
	}
	groups, problems := rulefmt.Parse(spec, false, model.LegacyValidation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	for _, problem := range problems {
		t.Errorf("%v", problem)
	}
	for _, group := range groups.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("only %d rules", len(all))
	}
	return all
}

// documented are the metrics in the tables of docs/operations.md, with their labels. That these are those of the programs is for the tests
// in docs.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(guideFile)
	if err != nil {
		t.Fatal(err)
	}
	metrics := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(certwright_[a-z_]+)` \\| ([^|:]*)").FindAllStringSubmatch(string(text), -1) {
		metrics[row[1]] = strings.Split(strings.TrimSpace(row[2]), ", ")
	}
	return metrics
}

// TestAlertsAskForWhatThereIs: each alert asks only for metrics that there are, by labels that these have.
func TestAlertsAskForWhatThereIs(t *testing.T) {
	known := documented(t)
	for name, labels := range foreign {
		known[name] = labels
	}
	series := regexp.MustCompile(`_(bucket|count|sum)$`) // of a histogram
	for _, rule := range rules(t) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
		if err != nil {
			t.Fatalf("%s: %v", rule.Alert, err)
		}
		var grouped, has []string
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.AggregateExpr:
				grouped = append(grouped, n.Grouping...)
			case *parser.VectorSelector:
				of, ok := known[n.Name]
				if !ok {
					of, ok = known[series.ReplaceAllString(n.Name, "")]
				}
				if !ok {
					t.Errorf("%s: there is no metric %s", rule.Alert, n.Name)
				}
				has = append(has, of...)
				for _, m := range n.LabelMatchers {
					if m.Name != model.MetricNameLabel && !slices.Contains(of, m.Name) {
						t.Errorf("%s: %s has no label %s", rule.Alert, n.Name, m.Name)
					}
				}
			}
			return nil
		})
		if len(has) == 0 {
			t.Errorf("%s asks for no metric", rule.Alert)
		}
		for _, name := range grouped {
			if !slices.Contains(has, name) {
				t.Errorf("%s: groups by %s, which none of its metrics has", rule.Alert, name)
			}
		}
	}
}

// command matches what a person can do about an alert.
var command = regexp.MustCompile(`kubectl [a-z]+|docs/[a-z/-]+[.]md|[Ll]ogs of deploy/`)

// TestAlertsSayWhatToDo: each alert says in a sentence what is wrong, and in others what that means and where to look.
func TestAlertsSayWhatToDo(t *testing.T) {
	names := map[string]bool{}
	for _, rule := range rules(t) {
		summary, description := rule.Annotations["summary"], rule.Annotations["description"]
		switch {
		case !strings.HasPrefix(rule.Alert, "Certwright") || names[rule.Alert]:
			t.Errorf("alert %q: its name is there twice, or does not say whose it is", rule.Alert)
		case summary == "" || len(summary) > 120 || strings.HasSuffix(summary, "."):
			t.Errorf("%s: the summary %q is no short title", rule.Alert, summary)
		case !strings.HasSuffix(description, ".") || !command.MatchString(description):
			t.Errorf("%s: the description %q does not say where to look", rule.Alert, description)
		case !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]):
			t.Errorf("%s: severity %q", rule.Alert, rule.Labels["severity"])
		}
		names[rule.Alert] = true
		for _, guide := range regexp.MustCompile(`docs/[a-z/-]+[.]md`).FindAllString(description, -1) {
			if _, err := os.Stat("../../" + guide); err != nil {
				t.Errorf("%s: %v", rule.Alert, err)
			}
		}
	}
}
