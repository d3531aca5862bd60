// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook/annotation"
)

// deliveredBy points to the annotation in a patch.
const deliveredBy = "/metadata/annotations/certwright.dev~1delivered-by"

func signerNamed(name string, age time.Duration, change func(*v1alpha1.SignerSpec)) *v1alpha1.Signer {
	s := kubeletFacts.Signer.DeepCopy()
	s.Name, s.CreationTimestamp = name, metav1.NewTime(time.Unix(1_000_000, 0).Add(-age))
	if change != nil {
		change(&s.Spec)
	}
	return s
}

// What is looked up is what it takes, and the oldest Signer of a signerName is the one that counts.
func TestGather(t *testing.T) {
	every, some := ability.PodCertificates{Version: "v1", EveryKubelet: true}, ability.PodCertificates{Version: "v1"}
	none := ability.PodCertificates{}
	noKubelet := func(s *v1alpha1.SignerSpec) { s.PodCertificates = nil }
	away := errors.New("connection refused")
	for name, test := range map[string]struct {
		change  func(*corev1.Pod)
		can     ability.PodCertificates
		signers []client.Object
		trouble error
		looked  string // at what, in order
		by      string
		message string
	}{
		"ready":                     {nil, every, []client.Object{signerNamed("a", 0, nil)}, nil, "signers", "kubelet", ""},
		"another Signer":            {nil, every, []client.Object{signerNamed("a", 0, func(s *v1alpha1.SignerSpec) { s.SignerName = "a.b/c" })}, nil, "signers services", "agent", ""},
		"the older one does not":    {nil, every, []client.Object{signerNamed("b", time.Hour, noKubelet), signerNamed("a", 0, nil)}, nil, "signers services", "agent", ""},
		"the older one does":        {nil, every, []client.Object{signerNamed("b", time.Hour, nil), signerNamed("a", 0, noKubelet)}, nil, "signers", "kubelet", ""},
		"as old, by name":           {nil, every, []client.Object{signerNamed("b", 0, nil), signerNamed("a", 0, noKubelet)}, nil, "signers services", "agent", ""},
		"some kubelets":             {nil, some, nil, nil, "services", "agent", ""},
		"asked of some kubelets":    {annotate(annotation.Delivery, "kubelet"), some, []client.Object{signerNamed("a", 0, nil)}, nil, "signers", "kubelet", ""},
		"asked of none":             {annotate(annotation.Delivery, "kubelet"), none, nil, nil, "", "", "the cluster serves no PodCertificateRequests"},
		"agent":                     {annotate(annotation.Delivery, "agent"), every, nil, nil, "services", "agent", ""},
		"only the agent can":        {annotate(annotation.Formats, "JKS"), every, nil, nil, "services", "agent", ""},
		"names of its own":          {annotate(annotation.DNSNames, "a.b"), none, nil, nil, "", "agent", ""},
		"trust":                     {trustOnly("a.b/c"), every, nil, nil, "", "kubelet", ""},
		"wrong":                     {annotate(annotation.Formats, "x"), every, nil, nil, "", "", "annotation certwright.dev/formats"},
		"trouble is no verdict":     {nil, every, nil, away, "signers", "", "looking up the Signer of signerName example.com/internal, which says whether kubelets get certificates: connection refused; try again"},
		"trouble with what is idle": {annotate(annotation.Delivery, "init"), every, nil, away, "services", "", "looking up the Services of namespace shop"},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
				t.Fatal(err)
			}
			var looked []string
			c := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(test.signers...).Build(), interceptor.Funcs{
				List: func(ctx context.Context, w client.WithWatch, into client.ObjectList, opts ...client.ListOption) error {
					options := (&client.ListOptions{}).ApplyOptions(opts)
					if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > gatherTimeout {
						t.Errorf("deadline %s, %t", deadline, ok)
					}
					switch into.(type) {
					case *v1alpha1.SignerList:
						looked = append(looked, "signers")
						if options.Raw == nil || options.Raw.ResourceVersion != "0" {
							t.Errorf("options %+v: not from the API server's cache", options)
						}
					case *corev1.ServiceList:
						looked = append(looked, "services")
					}
					if test.trouble != nil {
						return test.trouble
					}
					return w.List(ctx, into, opts...)
				},
			})
			m := testMutator
			m.PodCertificates = test.can
			h, err := NewHandler(m, c, clocktesting.NewFakePassiveClock(time.Unix(0, 0)), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			pod := newPod()
			if test.change != nil {
				test.change(pod)
			}
			got := h.Handle(t.Context(), admission.Request{AdmissionRequest: *request(encodePod(t, pod))})
			if strings.Join(looked, " ") != test.looked {
				t.Errorf("looked at %v, want %s", looked, test.looked)
			}
			if got.Allowed != (test.message == "") || test.message != "" && !strings.Contains(got.Result.Message, test.message) {
				t.Errorf("allowed %t: %+v", got.Allowed, got.Result)
			}
			if test.by == "" {
				return
			}
			last := got.Patches[slices.IndexFunc(got.Patches, func(p jsonpatch.JsonPatchOperation) bool { return p.Path == deliveredBy })]
			if last.Operation != "add" || last.Value != test.by {
				t.Errorf("patched %+v, want %s", last, test.by)
			}
		})
	}
}

// What kubelets can do changes while pods are answered, and each pod gets what is right for one of the two.
func TestSetPodCertificates(t *testing.T) {
	h := newHook(t, nil, signerNamed("a", 0, nil)).handler
	pod := encodePod(t, newPod())
	by := func() any {
		got := h.Handle(t.Context(), admission.Request{AdmissionRequest: *request(pod)})
		i := slices.IndexFunc(got.Patches, func(p jsonpatch.JsonPatchOperation) bool { return p.Path == deliveredBy })
		if !got.Allowed || i < 0 {
			t.Errorf("got %+v", got)
			return nil
		}
		return got.Patches[i].Value
	}
	every, some := ability.PodCertificates{Version: "v1", EveryKubelet: true}, ability.PodCertificates{Version: "v1"}
	for can, want := range map[ability.PodCertificates]string{every: "kubelet", some: "agent", {}: "agent"} {
		if h.SetPodCertificates(can); by() != want {
			t.Errorf("%s: not by %s", can, want)
		}
	}
	var pods sync.WaitGroup
	for range 4 {
		pods.Go(func() {
			for range 20 {
				if got := by(); got != "kubelet" && got != "agent" {
					t.Errorf("by %v", got)
				}
			}
		})
	}
	for range 20 {
		h.SetPodCertificates(every)
		h.SetPodCertificates(some)
	}
	pods.Wait()
}
