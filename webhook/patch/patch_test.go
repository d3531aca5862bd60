// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/certwright/certwright/webhook/annotation"
)

func TestBetween(t *testing.T) {
	const web = `{"containers": [{"name": "web", "novelty": 1, "resources": {}}], "volumes": [{"name": "data", "novelty": 2}]}`
	for name, test := range map[string]struct {
		spec   string
		change func(*corev1.Pod)
		want   string // the operations, or what an error holds
	}{
		"nothing": {web, func(*corev1.Pod) {}, `null`},
		"who delivers": {
			web, func(pod *corev1.Pod) { pod.Annotations = map[string]string{annotation.DeliveredBy: "agent"} },
			`[{"op":"add","path":"/metadata/annotations/certwright.dev~1delivered-by","value":"agent"}]`,
		},
		"another annotation, which is not ours": {web, func(pod *corev1.Pod) { pod.Annotations = map[string]string{annotation.Trust: "x"} }, `null`},
		"one more in a list": {
			web, func(pod *corev1.Pod) { pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "more"}) },
			`[{"op":"add","path":"/spec/volumes","value":[{"name":"data","novelty":2},{"name":"more"}]}]`,
		},
		"one before what has fields that are new": {
			web, func(pod *corev1.Pod) {
				pod.Spec.Containers = append([]corev1.Container{{Name: "first"}}, pod.Spec.Containers...)
			},
			`[{"op":"add","path":"/spec/containers","value":[{"name":"first","resources":{}},{"name":"web","novelty":1,"resources":{}}]}]`,
		},
		"a list that ends": {web, func(pod *corev1.Pod) { pod.Spec.Volumes = nil }, `[{"op":"remove","path":"/spec/volumes"}]`},
		"a value that ends": {
			`{"containers": null, "hostname": "x"}`, func(pod *corev1.Pod) { pod.Spec.Hostname = "" },
			`[{"op":"remove","path":"/spec/hostname"}]`,
		},
		"elements that cannot be told apart": {
			`{"containers": [{"name": "web"}, {"name": "web", "image": "x"}]}`, func(pod *corev1.Pod) { pod.Spec.Containers[1].Image = "y" },
			"its lists hold elements that cannot be told apart",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var original corev1.Pod
			if err := json.Unmarshal([]byte(test.spec), &original.Spec); err != nil {
				t.Fatal(err)
			}
			mutated := original.DeepCopy()
			test.change(mutated)
			operations, err := Between(json.RawMessage(test.spec), &original, mutated)
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Error(err)
				}
				return
			}
			if got, err := json.Marshal(operations); err != nil || string(got) != test.want {
				t.Errorf("got %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

// The strategy of lists that Between relies on, as our version of the types has it.
func TestMergeKeys(t *testing.T) {
	schema, err := strategicpatch.NewPatchMetaFromStruct(corev1.PodSpec{})
	if err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]string{"containers": "name", "initContainers": "name", "volumes": "name"} {
		_, meta, err := schema.LookupPatchMetadataForSlice(list)
		if err != nil || meta.GetPatchMergeKey() != want {
			t.Errorf("merge key of %s is %q (%v), want %q", list, meta.GetPatchMergeKey(), err, want)
		}
	}
}
