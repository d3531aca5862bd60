// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/patch"
)

// Outcomes of an admission request, as counted by the metric.
const (
	outcomeAllowed = "allowed" // with or without a patch
	outcomeRefused = "refused" // the author of the pod has to change something
	outcomeError   = "error"   // trying again may help
)

// Handler answers admission requests for pods. It implements admission.Handler
// and has no side effects, so a dry run is answered like any other request.
type Handler struct {
	mutator  atomic.Pointer[Mutator]
	cluster  client.Reader
	clock    clock.PassiveClock
	duration prometheus.Histogram
	answers  *prometheus.CounterVec
}

// NewHandler returns a Handler that looks up Services and Signers with the given
// reader, which should not be a cache, and registers its metrics.
func NewHandler(mutator Mutator, cluster client.Reader, c clock.PassiveClock, registerer prometheus.Registerer) (*Handler, error) {
	if err := mutator.Validate(); err != nil {
		return nil, err
	}
	h := &Handler{
		cluster: cluster,
		clock:   c,
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "certwright", Subsystem: "webhook", Name: "admission_duration_seconds",
			Help:    "Time to answer an admission request for a pod, in seconds.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "certwright", Subsystem: "webhook", Name: "admissions_total",
			Help: "Admission requests for pods, by outcome: allowed, refused (the pod has to change) or error (trying again may help).",
		}, []string{"outcome"}),
	}
	h.mutator.Store(&mutator)
	for _, outcome := range []string{outcomeAllowed, outcomeRefused, outcomeError} {
		h.answers.WithLabelValues(outcome)
	}
	for _, collector := range []prometheus.Collector{h.duration, h.answers} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("registering webhook metrics: %w", err)
		}
	}
	return h, nil
}

// SetPodCertificates has the pods that come from now on be delivered by what kubelets can do now. A pod that is being answered gets what it
// was begun with. It may be called by one goroutine at a time, whatever else the Handler does.
func (h *Handler) SetPodCertificates(can ability.PodCertificates) {
	mutator := *h.mutator.Load()
	mutator.PodCertificates = can
	h.mutator.Store(&mutator)
}

// Handle changes the pod or refuses it. It logs who asked and the outcome, never
// what is in the pod.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	start := h.clock.Now()
	response, err := h.answer(ctx, req)
	outcome := outcomeAllowed
	log := ctrl.LoggerFrom(ctx)
	var refusal annotation.Refusal
	switch {
	case errors.As(err, &refusal):
		outcome, response = outcomeRefused, admission.Denied(refusal.Error())
		log.Info("refused a pod that asks for a certificate", "reasons", len(refusal))
	case err != nil:
		outcome = outcomeError
		log.Error(err, "answering an admission request")
	}
	h.answers.WithLabelValues(outcome).Inc()
	h.duration.Observe(h.clock.Since(start).Seconds())
	return response
}

// answer returns the response, and the error that is in it, or will be if that is an
// annotation.Refusal.
func (h *Handler) answer(ctx context.Context, req admission.Request) (admission.Response, error) {
	if req.Operation != admissionv1.Create || req.Resource.Resource != "pods" || req.Resource.Group != "" || req.SubResource != "" {
		return admission.Allowed("not the creation of a pod"), nil
	}
	seen, err := readOutline(req.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err), err
	}
	if !seen.asks() {
		return admission.Allowed("the pod does not ask for a certificate or a trust bundle"), nil
	}
	if err := seen.checkSize(); err != nil {
		return admission.Response{}, err
	}
	var pod corev1.Pod
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, errNotAPod), errNotAPod
	}
	mutator := h.mutator.Load()
	facts, err := h.gather(ctx, mutator, &pod, req.Namespace)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err), err
	}
	mutated := pod.DeepCopy()
	if err := mutator.Mutate(mutated, facts); err != nil {
		return admission.Errored(http.StatusInternalServerError, err), err
	}
	operations, err := patch.Between(seen.Spec, &pod, mutated)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err), err
	}
	return admission.Patched("", operations...), nil
}

// RequestLogger is for an admission.Webhook: it names the request and what it is
// about, and nothing in it. Without a request, controller-runtime logs errors, and in
// debug mode the text of each answer, which may quote the pod: a level that nobody
// reaches keeps it out.
func RequestLogger(base logr.Logger, req *admission.Request) logr.Logger {
	if req == nil {
		return base.V(100)
	}
	return base.WithValues("namespace", req.Namespace, "kind", req.Kind.Kind, "name", req.Name, "requestID", req.UID)
}
