// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/webhook/patch"
)

func BenchmarkMutate(b *testing.B) {
	facts := Facts{Namespace: "shop"}
	for i := range 50 {
		facts.Services = append(facts.Services, service(fmt.Sprint("s", i), func(s *corev1.Service) {
			if i > 2 {
				s.Spec.Selector = map[string]string{"app": "other"}
			}
		}))
	}
	pod := newPod(func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "web"} })
	b.ReportAllocs()
	for b.Loop() {
		if err := testMutator.Mutate(pod.DeepCopy(), facts); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatch(b *testing.B) {
	raw, err := json.Marshal(newPod())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		original := decodePod(b, raw)
		mutated := original.DeepCopy()
		if err := testMutator.Mutate(mutated, shop); err != nil {
			b.Fatal(err)
		}
		seen, err := readOutline(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := patch.Between(seen.Spec, original, mutated); err != nil {
			b.Fatal(err)
		}
	}
}
