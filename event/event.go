// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package event tells people, through Kubernetes events, about requests and Signers that want their attention. What a pod is refused or
// waits for is told on the pod as well, where its owner looks. Each thing is told once, however often it is looked at and by however many
// replicas: an event's name is made from whom it is about and the reason, so that the API server refuses the second one. A pod that asks
// again and again, with a new request each time, hears of it again only when the API server has forgotten the first event, after an hour
// where nothing else is configured.
package event

import (
	"context"
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
)

// maxNote is the longest note in bytes that the API server takes (k8s.io/kubernetes/pkg/apis/core/validation/events.go).
const maxNote = 1024

// Teller tells about requests and Signers under the name of one component. A request is a CertificateSigningRequest or a
// PodCertificateRequest.
type Teller struct {
	// Client creates the events.
	Client client.Client
	// Component is who speaks, such as "certwright-approver".
	Component string
	// Instance is the name of the replica that speaks.
	Instance string
	Clock    clock.PassiveClock
}

// Warn tells that a request was refused, or what it waits for, in words that are fit for who asks: a pod's owner reads them too.
func (t Teller) Warn(ctx context.Context, request client.Object, reason, note string) {
	t.tell(ctx, request, corev1.EventTypeWarning, reason, note, note)
}

// Inform tells that a request waits for a person, in words that are fit for who asks.
func (t Teller) Inform(ctx context.Context, request client.Object, reason, note string) {
	t.tell(ctx, request, corev1.EventTypeNormal, reason, note, note)
}

// notAnswered is what a pod's owner hears of trouble.
const notAnswered = "It is not answered yet, for a reason that it did not give, and is tried again. Those who run Certwright find the reason in the events of the request."

// Trouble tells what keeps a request from an answer. A pod's owner hears that something does, and not what: it may name servers and
// Secrets that are none of a tenant's business.
func (t Teller) Trouble(ctx context.Context, request client.Object, reason, note string) {
	t.tell(ctx, request, corev1.EventTypeWarning, reason, note, notAnswered)
}

// Remark tells what changes nothing for who asks, on the request alone.
func (t Teller) Remark(ctx context.Context, request client.Object, reason, note string) {
	t.tell(ctx, request, corev1.EventTypeNormal, reason, note, "")
}

// Signer tells about a change in the life of a Signer. Unlike what is told about requests, each change is told.
func (t Teller) Signer(ctx context.Context, signer *v1alpha1.Signer, kind, reason, note string) {
	change := fmt.Sprintf("%s/%s/%s/%d", signer.UID, reason, note, t.Clock.Now().UnixNano())
	t.create(ctx, nameFrom("signer", change), kind, "Sign", reason, note, corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "Signer", Name: signer.Name, UID: signer.UID,
	})
}

// tell tells on the request and, if there is something for its owner, on the pod that it is for.
func (t Teller) tell(ctx context.Context, request client.Object, kind, reason, note, podNote string) {
	about, pod := referenceTo(request)
	toldBefore := t.create(ctx, nameFrom(about.Name, string(about.UID)+"/"+reason), kind, "Certificate", reason, note, about)
	if podNote != "" && pod.Name != "" && !toldBefore {
		t.create(ctx, nameFrom(pod.Name, string(pod.UID)+"/"+reason), kind, "Certificate", reason, fmt.Sprintf("%s %s: %s", about.Kind, about.Name, podNote), pod)
	}
}

// create creates the event, and reports whether it exists already. One that cannot be created is logged: what it is about comes first.
func (t Teller) create(ctx context.Context, name, kind, action, reason, note string, regarding corev1.ObjectReference) (exists bool) {
	event := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: regarding.Namespace, Name: name},
		EventTime:           metav1.NewMicroTime(t.Clock.Now()),
		ReportingController: "certwright.dev/" + t.Component,
		ReportingInstance:   t.Instance,
		Action:              action,
		Reason:              reason,
		Type:                kind,
		Note:                excerpt.WithEnd(note, maxNote, "… (cut: see the status)"),
		Regarding:           regarding,
	}
	if regarding.Namespace == "" {
		event.Namespace = metav1.NamespaceDefault // where events about cluster-scoped objects live
	}
	err := t.Client.Create(ctx, event)
	goingAway := apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
	if err != nil && !apierrors.IsAlreadyExists(err) && !goingAway {
		logf.FromContext(ctx).Error(err, "creating an event", "reason", reason)
	}
	return apierrors.IsAlreadyExists(err)
}

// nameFrom is the same for the same text, and starts with the name of the object if it can. The API server takes almost any text for
// the name of a request, but only a DNS name for that of an event.
func nameFrom(object, text string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // it never fails
	full := fmt.Sprintf("%s.%016x", object, h.Sum64())
	if len(validation.IsDNS1123Subdomain(full)) > 0 {
		return fmt.Sprintf("request.%016x", h.Sum64())
	}
	return full
}
