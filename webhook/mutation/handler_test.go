// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook/annotation"
)

// hook is the handler behind a real HTTP server.
type hook struct {
	*httptest.Server
	t        *testing.T
	handler  *Handler
	registry *prometheus.Registry
	log      *bytes.Buffer
}

// lister lists Services in the place of a cluster.
type lister func(ctx context.Context, into *corev1.ServiceList, opts *client.ListOptions) error

// newHook serves the handler; list, if set, answers instead of the Services.
func newHook(t *testing.T, list lister, services ...client.Object) *hook {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(services...).Build(), interceptor.Funcs{
		List: func(ctx context.Context, w client.WithWatch, into client.ObjectList, opts ...client.ListOption) error {
			if of, ok := into.(*corev1.ServiceList); ok && list != nil {
				return list(ctx, of, (&client.ListOptions{}).ApplyOptions(opts))
			}
			return w.List(ctx, into, opts...)
		},
	})
	h := &hook{t: t, registry: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	handler, err := NewHandler(testMutator, c, clocktesting.NewFakePassiveClock(time.Unix(0, 0)), h.registry)
	if err != nil {
		t.Fatal(err)
	}
	h.handler = handler
	served, err := admission.StandaloneWebhook(&admission.Webhook{Handler: handler, LogConstructor: RequestLogger}, admission.StandaloneOptions{
		Logger: funcr.New(func(prefix, args string) { h.log.WriteString(prefix + args + "\n") }, funcr.Options{Verbosity: 10}),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Server = httptest.NewServer(served)
	t.Cleanup(h.Close)
	return h
}

func request(pod []byte) *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{
		UID:       "4711",
		Kind:      metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Namespace: "shop",
		Operation: admissionv1.Create,
		Object:    runtime.RawExtension{Raw: pod},
	}
}

// send posts an AdmissionReview as the API server does.
func (h *hook) send(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	h.t.Helper()
	review := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	}
	body, err := json.Marshal(review)
	if err != nil {
		h.t.Fatal(err)
	}
	answer, err := h.Client().Post(h.URL, "application/json", bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	var got admissionv1.AdmissionReview
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		h.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK || got.Kind != "AdmissionReview" || got.Response == nil || got.Response.UID != request.UID {
		h.t.Fatalf("not a complete answer: %d %+v", answer.StatusCode, got)
	}
	return got.Response
}

func encodePod(t testing.TB, pod *corev1.Pod) []byte {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// assertCounted checks that one request was counted, and measured.
func (h *hook) assertCounted(outcome string) {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.Metric {
			if metric.Histogram != nil {
				got[family.GetName()] = float64(metric.Histogram.GetSampleCount())
				continue
			}
			got[family.GetName()+"/"+metric.Label[0].GetValue()] = metric.Counter.GetValue()
		}
	}
	want := map[string]float64{
		"certwright_webhook_admission_duration_seconds": 1,
		"certwright_webhook_admissions_total/allowed":   0,
		"certwright_webhook_admissions_total/refused":   0,
		"certwright_webhook_admissions_total/error":     0,
	}
	want["certwright_webhook_admissions_total/"+outcome] = 1
	if !maps.Equal(got, want) {
		h.t.Errorf("metrics are %v, want %v", got, want)
	}
}

func TestHandler(t *testing.T) {
	web := service("web", nil)
	labelled := func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "web"} }
	down := func(context.Context, *corev1.ServiceList, *client.ListOptions) error {
		return errors.New("connection refused")
	}
	for name, test := range map[string]struct {
		request func(*admissionv1.AdmissionRequest)
		pod     *corev1.Pod
		list    lister
		outcome string
		code    int32
		message string
		patched bool
	}{
		"asks":           {pod: newPod(labelled), outcome: outcomeAllowed, code: 200, patched: true},
		"dry run":        {pod: newPod(labelled), request: func(r *admissionv1.AdmissionRequest) { r.DryRun = ptr.To(true) }, outcome: outcomeAllowed, code: 200, patched: true},
		"without a name": {pod: newPod(labelled, func(pod *corev1.Pod) { pod.Name, pod.GenerateName = "", "web-" }), outcome: outcomeAllowed, code: 200, patched: true},
		"does not ask": {
			pod:     newPod(func(pod *corev1.Pod) { pod.Annotations = map[string]string{annotation.DNSNames: "?"} }),
			outcome: outcomeAllowed, code: 200, message: "the pod does not ask for a certificate or a trust bundle",
		},
		"update": {
			pod: newPod(), request: func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
			outcome: outcomeAllowed, code: 200, message: "not the creation of a pod",
		},
		"subresource": {
			pod: newPod(), request: func(r *admissionv1.AdmissionRequest) { r.SubResource = "binding" },
			outcome: outcomeAllowed, code: 200, message: "not the creation of a pod",
		},
		"refused": {
			pod: newPod(annotate(annotation.Delivery, "secret-value")), outcome: outcomeRefused, code: 403,
			message: `this pod cannot get what it asks for: annotation certwright.dev/delivery: "secret-value" is not allowed, use auto, agent, init or kubelet`,
		},
		"Services unknown": {
			pod: newPod(), list: down, outcome: outcomeError, code: 500,
			message: "looking up the Services of namespace shop, which give the pod its DNS names: connection refused; try again",
		},
		"Services not needed": {pod: newPod(annotate(annotation.DNSNames, "")), list: down, outcome: outcomeAllowed, code: 200, patched: true},
		"not an object": {
			pod: newPod(), request: func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`"secret-value"`) },
			outcome: outcomeError, code: 400, message: "decoding pod: it does not fit the Pod type of the Kubernetes API that this webhook was built with",
		},
		"not a pod": {
			pod: newPod(), request: func(r *admissionv1.AdmissionRequest) {
				r.Object.Raw = []byte(`{"metadata": {"annotations": {"certwright.dev/auto-tls": "x"}}, "spec": {"containers": "secret-value"}}`)
			},
			outcome: outcomeError, code: 400, message: "decoding pod: it does not fit the Pod type of the Kubernetes API that this webhook was built with",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t, test.list, &web)
			sent := request(encodePod(t, test.pod))
			if test.request != nil {
				test.request(sent)
			}
			got := h.send(sent)
			if got.Allowed != (test.outcome == outcomeAllowed) || got.Result.Code != test.code || got.Result.Message != test.message {
				t.Errorf("allowed %t, code %d, message %q", got.Allowed, got.Result.Code, got.Result.Message)
			}
			if (got.Patch != nil) != test.patched || test.patched && *got.PatchType != admissionv1.PatchTypeJSONPatch {
				t.Errorf("patch is %s", got.Patch)
			}
			if test.patched && name != "Services not needed" && !strings.Contains(string(got.Patch), "web.shop.svc.cluster.local") {
				t.Errorf("the patch lacks the name of the Service: %s", got.Patch)
			}
			h.assertCounted(test.outcome)
			for _, secret := range []string{"secret-value", "example.com/web:1", signer, "initContainers"} {
				if strings.Contains(h.log.String(), secret) {
					t.Errorf("the log holds %q of the pod:\n%s", secret, h.log)
				}
			}
		})
	}
}

// The look-up of Services is given up well before the API server gives up.
func TestHandlerTimeout(t *testing.T) {
	h := newHook(t, func(ctx context.Context, _ *corev1.ServiceList, _ *client.ListOptions) error {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > gatherTimeout {
			t.Errorf("deadline %s, %t", deadline, ok)
		}
		return context.DeadlineExceeded
	})
	if got := h.send(request(encodePod(t, newPod()))); got.Allowed || got.Result.Code != 500 || !strings.Contains(got.Result.Message, "try again") {
		t.Errorf("got %+v", got)
	}
}

func TestNewHandler(t *testing.T) {
	clock, registry := clocktesting.NewFakePassiveClock(time.Unix(0, 0)), prometheus.NewRegistry()
	if _, err := NewHandler(Mutator{}, nil, clock, registry); err == nil {
		t.Error("a handler without an image")
	}
	if _, err := NewHandler(testMutator, nil, clock, registry); err != nil {
		t.Error(err)
	}
	if _, err := NewHandler(testMutator, nil, clock, registry); err == nil {
		t.Error("metrics registered twice")
	}
}

// TestHandlerAnswersWhileStopping sends a request whose context ended with the process's: the pod must not be refused for it.
func TestHandlerAnswersWhileStopping(t *testing.T) {
	h := newHook(t, func(ctx context.Context, _ *corev1.ServiceList, _ *client.ListOptions) error { return ctx.Err() })
	stopping, stop := context.WithCancel(t.Context())
	stop()
	response := h.handler.Handle(stopping, admission.Request{AdmissionRequest: *request(encodePod(t, newPod()))})
	if !response.Allowed {
		t.Errorf("refused: %v", response.Result)
	}
}
