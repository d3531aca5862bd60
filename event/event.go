// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package event tells people, through Kubernetes events, about requests and Signers that want their attention. Of a request, each
// thing is told once, however often it is looked at and by however many replicas: the event's name is made from the
// request and the reason, so that the API server refuses the second one.
package event

import (
	"context"
	"fmt"
	"hash/fnv"

	certificatesv1 "k8s.io/api/certificates/v1"
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

// Teller tells about requests and Signers under the name of one component.
type Teller struct {
	// Client creates the events.
	Client client.Client
	// Component is who speaks, such as "certwright-approver".
	Component string
	// Instance is the name of the replica that speaks.
	Instance string
	Clock    clock.PassiveClock
}

// Warn tells that a request is in trouble or was refused.
func (t Teller) Warn(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, reason, note string) {
	t.tell(ctx, csr, corev1.EventTypeWarning, reason, note)
}

// Inform tells that a request waits for a person.
func (t Teller) Inform(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, reason, note string) {
	t.tell(ctx, csr, corev1.EventTypeNormal, reason, note)
}

// Signer tells about a change in the life of a Signer. Unlike what is told about requests, each change is told.
func (t Teller) Signer(ctx context.Context, signer *v1alpha1.Signer, kind, reason, note string) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s/%s/%d", signer.UID, reason, note, t.Clock.Now().UnixNano())
	t.create(ctx, fmt.Sprintf("signer.%016x", h.Sum64()), kind, "Sign", reason, note, corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "Signer", Name: signer.Name, UID: signer.UID,
	})
}

func (t Teller) tell(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, kind, reason, note string) {
	t.create(ctx, name(csr, reason), kind, "Certificate", reason, note, corev1.ObjectReference{
		APIVersion: certificatesv1.SchemeGroupVersion.String(), Kind: "CertificateSigningRequest", Name: csr.Name, UID: csr.UID,
	})
}

// create creates the event unless it exists. An event that cannot be created is logged: what it is about comes first.
func (t Teller) create(ctx context.Context, name, kind, action, reason, note string, regarding corev1.ObjectReference) {
	event := &eventsv1.Event{
		// Events about cluster-scoped objects live in the default namespace.
		ObjectMeta:          metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		EventTime:           metav1.NewMicroTime(t.Clock.Now()),
		ReportingController: "certwright.dev/" + t.Component,
		ReportingInstance:   t.Instance,
		Action:              action,
		Reason:              reason,
		Type:                kind,
		Note:                excerpt.WithEnd(note, maxNote, "… (cut: see kubectl get csr -o yaml)"),
		Regarding:           regarding,
	}
	if err := t.Client.Create(ctx, event); err != nil && !apierrors.IsAlreadyExists(err) {
		logf.FromContext(ctx).Error(err, "creating an event", "reason", reason)
	}
}

// name is the same for the same request and reason, and differs for a request that took a deleted one's name. The API
// server takes almost any text for the name of a request, but only a DNS name for that of an event.
func name(csr *certificatesv1.CertificateSigningRequest, reason string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s", csr.UID, reason)
	full := fmt.Sprintf("%s.%016x", csr.Name, h.Sum64())
	if len(validation.IsDNS1123Subdomain(full)) > 0 {
		return fmt.Sprintf("request.%016x", h.Sum64())
	}
	return full
}
