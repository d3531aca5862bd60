// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"os"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"sigs.k8s.io/yaml"
)

// The example is of fields that the API has, and its two objects fit together.
func TestExampleFlowControl(t *testing.T) {
	file, err := os.ReadFile("examples/flow-control.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := bytes.Split(file, []byte("\n---\n"))
	if len(documents) != 2 {
		t.Fatalf("%d documents, want 2", len(documents))
	}
	var level flowcontrolv1.PriorityLevelConfiguration
	var schema flowcontrolv1.FlowSchema
	for i, object := range []any{&level, &schema} {
		if err := yaml.UnmarshalStrict(documents[i], object); err != nil {
			t.Fatal(err)
		}
	}
	if level.Spec.Type != flowcontrolv1.PriorityLevelEnablementLimited || level.Spec.Limited == nil || level.Name != schema.Spec.PriorityLevelConfiguration.Name {
		t.Errorf("the flow schema is for %q, the level is %+v", schema.Spec.PriorityLevelConfiguration.Name, level)
	}
	for _, rule := range schema.Spec.Rules {
		if len(rule.ResourceRules) != 1 || !rule.ResourceRules[0].ClusterScope {
			t.Errorf("%+v does not match objects without a namespace", rule)
		}
	}
}
