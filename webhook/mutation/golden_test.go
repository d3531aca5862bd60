// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/patch"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testMutator is how the webhook is set up in these tests.
var testMutator = Mutator{
	AgentImage:    "certwright/certwright-agent:v1",
	TrustDomain:   "cluster.local",
	ClusterDomain: "cluster.local",
	Trust:         distribution.ClusterTrustBundle,
}

// input is a pod, and what the cluster has.
type input struct {
	raw   []byte
	facts Facts
}

// readInput reads a pod, and the Services and the Signer after it, from a file of YAML documents.
func readInput(t *testing.T, file string) input {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := input{facts: shop}
	for i, document := range strings.Split(string(data), "\n---\n") {
		if i == 0 {
			if in.raw, err = yaml.YAMLToJSON([]byte(document)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if strings.Contains(document, "\nkind: Signer\n") {
			in.facts.Signer = &v1alpha1.Signer{}
			err = yaml.UnmarshalStrict([]byte(document), in.facts.Signer)
		} else {
			in.facts.Services = append(in.facts.Services, corev1.Service{})
			err = yaml.UnmarshalStrict([]byte(document), &in.facts.Services[len(in.facts.Services)-1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return in
}

func decodePod(t testing.TB, raw []byte) *corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

// apply mutates the pod in raw and applies the patch with the library that the
// API server uses.
func apply(t testing.TB, m Mutator, raw []byte, in Facts) (encoded, result []byte) {
	t.Helper()
	original := decodePod(t, raw)
	mutated := original.DeepCopy()
	if err := m.Mutate(mutated, in); err != nil {
		t.Fatal(err)
	}
	seen, err := readOutline(raw)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := patch.Between(seen.Spec, original, mutated)
	if err != nil {
		t.Fatal(err)
	}
	if encoded, err = json.Marshal(operations); err != nil {
		t.Fatal(err)
	}
	if operations == nil {
		return nil, raw
	}
	decoded, err := jsonpatch.DecodePatch(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if result, err = decoded.Apply(raw); err != nil {
		t.Fatal(err)
	}
	return encoded, result
}

// TestGolden shows what becomes of typical pods: testdata/NAME.yaml holds the pod,
// the Services of its namespace and its Signer, NAME.patch.yaml the patch. Where
// there is a Signer, kubelets can do what it says.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".patch.yaml") {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			m := testMutator
			if strings.HasPrefix(name, "configmap-") {
				m.Trust = distribution.ConfigMap
			}
			in := readInput(t, file)
			if in.facts.Signer != nil {
				m.PodCertificates = ability.PodCertificates{Version: "v1", EveryKubelet: true}
			}
			operations, result := apply(t, m, in.raw, in.facts)
			got := []byte("# nothing to change\n")
			if operations != nil {
				if got, err = yaml.JSONToYAML(operations); err != nil {
					t.Fatal(err)
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".patch.yaml"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("the patch differs from %s; look at the difference, and run the test with -update if it is meant:\n%s", golden, got)
			}
			if again, _ := apply(t, m, result, in.facts); again != nil {
				t.Errorf("a second visit changes the pod again: %s", again)
			}
		})
	}
}

// Fields that the Kubernetes API may get in the future survive, also in elements
// of lists that change or move.
func TestUnknownFieldsSurvive(t *testing.T) {
	raw := []byte(`{
		"apiVersion": "v1", "kind": "Pod", "novelty": {"a": [1, 2.5, "x", null]},
		"metadata": {"name": "web", "namespace": "shop", "annotations": {"certwright.dev/auto-tls": "example.com/internal"}},
		"spec": {
			"novelty": "spec",
			"initContainers": [{"name": "first", "image": "a", "novelty": 9007199254740993}, {"name": "second", "image": "b", "novelty": "second",
				"volumeMounts": [{"name": "data", "mountPath": "/data", "novelty": "mount"}]}],
			"containers": [
				{"name": "web", "image": "c", "novelty": "web", "env": [{"name": "A", "value": "1", "novelty": "env"}, {"name": "A", "value": "2"}],
				 "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP", "novelty": "port"}]},
				{"name": "side", "image": "d", "novelty": "side", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
			"securityContext": {"novelty": "context", "supplementalGroups": [7]},
			"volumes": [{"name": "data", "emptyDir": {"novelty": "volume"}}, {"name": "new", "inventedVolume": {"x": 1}}]
		}}`)
	_, result := apply(t, testMutator, raw, Facts{Namespace: "shop"})
	var before, after map[string]any
	if err := json.Unmarshal(raw, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(result, &after); err != nil {
		t.Fatal(err)
	}
	assertContains(t, "", before, after)
	if !strings.Contains(string(result), `"novelty":9007199254740993`) {
		t.Error("a large number has lost its last digit")
	}
}

// assertContains checks that everything of before is in after; of a list, in the
// same order.
func assertContains(t *testing.T, at string, before, after any) {
	t.Helper()
	switch before := before.(type) {
	case map[string]any:
		got, ok := after.(map[string]any)
		if !ok {
			t.Errorf("%s: %v, want an object", at, after)
			return
		}
		for key, value := range before {
			assertContains(t, at+"."+key, value, got[key])
		}
	case []any:
		got, _ := after.([]any)
		added := len(got) - len(before)
		if added < 0 {
			t.Errorf("%s: elements are missing", at)
			return
		}
		if at != ".spec.initContainers" { // where ours comes first; elsewhere last
			added = 0
		}
		for i, value := range before {
			assertContains(t, at+"[]", value, got[i+added])
		}
	default:
		if before != after {
			t.Errorf("%s: %v, want %v", at, after, before)
		}
	}
}
