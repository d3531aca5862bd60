// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/certwright/certwright/webhook/annotation"
)

const (
	// servicesTimeout bounds the look-up of Services; the API server waits ten
	// seconds for the whole answer.
	servicesTimeout = 5 * time.Second
	// servicesPage is how many of them are read at a time, however many a namespace
	// has.
	servicesPage = 100
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
	mutator  Mutator
	services client.Reader
	clock    clock.PassiveClock
	duration prometheus.Histogram
	answers  *prometheus.CounterVec
}

// NewHandler returns a Handler that looks up Services with the given reader,
// which should not be a cache, and registers its metrics.
func NewHandler(mutator Mutator, services client.Reader, c clock.PassiveClock, registerer prometheus.Registerer) (*Handler, error) {
	if err := mutator.Validate(); err != nil {
		return nil, err
	}
	h := &Handler{
		mutator:  mutator,
		services: services,
		clock:    c,
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
	if _, asks := seen.Metadata.Annotations[annotation.AutoTLS]; !asks {
		return admission.Allowed("the pod does not ask for a certificate"), nil
	}
	if err := seen.checkSize(); err != nil {
		return admission.Response{}, err
	}
	var pod corev1.Pod
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, errNotAPod), errNotAPod
	}
	facts, err := h.gather(ctx, &pod, req.Namespace)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err), err
	}
	mutated := pod.DeepCopy()
	if err := h.mutator.Mutate(mutated, facts); err != nil {
		return admission.Errored(http.StatusInternalServerError, err), err
	}
	operations, err := patchSpec(seen.Spec, pod.Spec, mutated.Spec)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err), err
	}
	return admission.Patched("", operations...), nil
}

// gather looks up the Services that select the pod, unless it brings its own DNS
// names. More than maxServices are too many, and no more are read.
func (h *Handler) gather(ctx context.Context, pod *corev1.Pod, namespace string) (Facts, error) {
	facts := Facts{Namespace: namespace}
	if _, explicit := pod.Annotations[annotation.DNSNames]; explicit {
		return facts, nil
	}
	// The server's context ends when the process is told to stop, but requests under way are still answered then.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), servicesTimeout)
	defer cancel()
	for next := ""; ; {
		var page corev1.ServiceList
		err := h.services.List(ctx, &page, client.InNamespace(namespace), client.Limit(servicesPage), client.Continue(next))
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return Facts{}, annotation.Refusal{fmt.Sprintf("the Services of namespace %s, which give it its DNS names, take more than %d bytes for %d of them: name those to ask for in annotation %s",
				namespace, tooLarge.Limit, servicesPage, annotation.DNSNames)}
		} else if err != nil {
			return Facts{}, fmt.Errorf("looking up the Services of namespace %s, which give the pod its DNS names: %w; try again", namespace, err)
		}
		for i := range page.Items {
			if selects(&page.Items[i], pod) {
				facts.Services = append(facts.Services, page.Items[i])
			}
		}
		if next = page.Continue; next == "" || len(facts.Services) > maxServices {
			return facts, nil
		}
	}
}
