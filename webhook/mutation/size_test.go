// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

func TestCountValues(t *testing.T) {
	for text, want := range map[string]int{
		``:                          0,
		`{}`:                        1,
		`[]`:                        1,
		`{"a":1}`:                   1,
		`{"a":[1,2,{"b":"c"}]}`:     5,
		`{"a":"{[,"}`:               1,
		`{"a":"\\\",{","b":"\\\\"}`: 2,
		`{"a":"\\`:                  1,
	} {
		if got := countValues([]byte(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// hostile is a pod of about the given size in bytes that asks, with one field full of one element; %[1]d in it counts.
func hostile(field, element string, size int) []byte {
	var b strings.Builder
	b.WriteString(`{"metadata":{"annotations":{"certwright.dev/auto-tls":"example.com/internal"}},"spec":{"containers":[{"name":"a"}],"` + field + `":[`)
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		if strings.Contains(element, "%") {
			fmt.Fprintf(&b, element, i)
		} else {
			b.WriteString(element)
		}
	}
	b.WriteString("]}}")
	return []byte(b.String())
}

// What the API server lets through, 3 MiB of whatever somebody who may create pods thinks of, costs no more than a few
// times its size; and so does the most that is not refused. Before there was a bound, these took gigabytes and minutes.
func TestHostilePods(t *testing.T) {
	const most = 3 << 20
	annotated := func(pairs string) []byte {
		return []byte(`{"metadata":{"annotations":{"certwright.dev/auto-tls":"example.com/internal",` + pairs + `}},"spec":{"containers":[{"name":"a"}]}}`)
	}
	numbers := func(format, separator string, n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(all, separator)
	}
	mounts := func(n int) []byte {
		return []byte(`{"metadata":{"annotations":{"certwright.dev/auto-tls":"example.com/internal"}},"spec":{"containers":[{"name":"a","volumeMounts":[` +
			numbers(`{"name":"v","mountPath":"/%d"}`, ",", n) + `]}]}}`)
	}
	for name, test := range map[string]struct {
		pod     []byte
		message string
	}{
		"empty tolerations":    {hostile("tolerations", `{}`, most), "the most is 10000"},
		"volumes":              {hostile("volumes", `{"name":"v%[1]d","emptyDir":{}}`, most), "the most is 10000"},
		"init containers":      {hostile("initContainers", `{"name":"v%[1]d","resources":{}}`, most), "the most is 10000"},
		"unknown field":        {hostile("unknown", `{"name":"v%[1]d"}`, most), "the most is 10000"},
		"values to the bound":  {hostile("tolerations", `{}`, 14_500), ""},
		"volumes to the bound": {hostile("volumes", `{"name":"v%[1]d","emptyDir":{}}`, 14_500), ""},
		"a few more volumes":   {hostile("volumes", `{"name":"v%[1]d","emptyDir":{}}`, 15_500), "containers, volumes and mounts together, the most is 500"},
		"mounts":               {mounts(3000), "containers, volumes and mounts together, the most is 500"},
		"one long string":      {hostile("unknown", `"`+strings.Repeat("x", most)+`"`, 1000), ""},
		"DNS names":            {annotated(`"certwright.dev/dns-names":"` + numbers("a%d", ",", most/8) + `"`), "annotation certwright.dev/dns-names:"},
		"bad containers":       {annotated(`"certwright.dev/containers":"` + numbers("b%d", ",", annotation.MaxBytes/6) + `"`), "; and "},
		"unknown annotations":  {annotated(numbers(`"certwright.dev/x%d":""`, ",", most/30)), "; and "},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t, nil)
			sent := request(test.pod)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := h.send(sent)
			runtime.ReadMemStats(&after)
			if got.Allowed != (test.message == "") || !strings.Contains(got.Result.Message, test.message) {
				t.Errorf("allowed %t: %.300s", got.Allowed, got.Result.Message)
			}
			if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 128 {
				t.Errorf("%d MiB for a pod of %d KiB", allocated, len(test.pod)>>10)
			}
			if len(got.Result.Message) > 16<<10 {
				t.Errorf("the message is %d bytes long", len(got.Result.Message))
			}
		})
	}
}

// What was let through is let through again, with all that was added to it; but who uses our names gains no room by that.
func TestItemsToTheBound(t *testing.T) {
	pod := newPod(func(pod *corev1.Pod) {
		for i := range 50 {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i)})
		}
		for i := countItems(pod); i < maxItems; i++ {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i)})
		}
	})
	for visit := range 2 {
		if err := testMutator.Mutate(pod, shop); err != nil {
			t.Fatalf("visit %d: %v", visit+1, err)
		}
		if n := countItems(pod); n != maxItems {
			t.Errorf("%d items after visit %d, want %d", n, visit+1, maxItems)
		}
	}
	for name, add := range map[string]func(*corev1.PodSpec){
		"volume":    func(s *corev1.PodSpec) { s.Volumes = append(s.Volumes, corev1.Volume{Name: inject.TLSVolume}) },
		"container": func(s *corev1.PodSpec) { s.InitContainers = append(s.InitContainers, corev1.Container{Name: "more"}) },
		"mount": func(s *corev1.PodSpec) {
			s.Containers[0].VolumeMounts = append(s.Containers[0].VolumeMounts, corev1.VolumeMount{Name: inject.TLSVolume, MountPath: "/more"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			larger := pod.DeepCopy()
			add(&larger.Spec)
			if err := testMutator.Mutate(larger, shop); err == nil || !strings.Contains(err.Error(), "it holds 501 containers, volumes and mounts together, the most is 500") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A page of Services that each hold a megabyte of annotations is not read to its end.
func TestHostileServices(t *testing.T) {
	huge := service("web", func(s *corev1.Service) { s.Annotations = map[string]string{"x": strings.Repeat("x", 1<<20)} })
	item, err := json.Marshal(huge)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		services int
		allowed  bool
	}{"three": {3, true}, "a page": {servicesPage, false}} {
		t.Run(name, func(t *testing.T) {
			cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprint(w, `{"kind":"ServiceList","apiVersion":"v1","items":[`)
				for i := range test.services {
					if i > 0 {
						_, _ = fmt.Fprint(w, ",")
					}
					_, _ = w.Write(item)
				}
				_, _ = fmt.Fprint(w, `]}`)
			}))
			defer cluster.Close()
			config := &rest.Config{Host: cluster.URL, WrapTransport: BoundAnswers}
			mapper := meta.NewDefaultRESTMapper(nil)
			mapper.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
			c, err := client.New(config, client.Options{Scheme: scheme.Scheme, Mapper: mapper})
			if err != nil {
				t.Fatal(err)
			}
			h, err := NewHandler(testMutator, c, clock.RealClock{}, prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			pod := newPod(func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "web"} })
			got := h.Handle(t.Context(), admission.Request{AdmissionRequest: *request(encodePod(t, pod))})
			if got.Allowed != test.allowed {
				t.Errorf("allowed %t: %v", got.Allowed, got.Result)
			}
			if !test.allowed && (got.Result.Reason != metav1.StatusReasonForbidden || !strings.Contains(got.Result.Message, "name those to ask for in annotation certwright.dev/dns-names")) {
				t.Errorf("refused with %+v", got.Result)
			}
		})
	}
}
