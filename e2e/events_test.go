// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What a pod is refused is told on the pod, once, and by whom it was asked.
func TestAPodIsToldOnceWhatItIsRefused(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(forKubelets)
	s.policy()
	s.makeServiceAccounts("app")
	for by, kind := range map[string]string{"agent": "CertificateSigningRequest ", "kubelet": "PodCertificateRequest "} {
		pod := s.newPod(by, s.annotated(by, "delivery", by, "dns-names", "shop.example.com"), "app", demo("app", 1000, "server"))
		s.make(pod)
		note := s.warnedOfPod(pod, "PolicyDenies", "shop.example.com")
		if !strings.HasPrefix(note, kind) {
			s.Errorf("pod %s is told %q, want it to begin with %q", by, note, kind)
		}
		if by == "agent" { // it asks again and again
			s.warned(s.laterRequestOf(pod), "PolicyDenies")
		}
		list, err := kube.CoreV1().Events(s.namespace).List(s.ctx, metav1.ListOptions{FieldSelector: "reason=PolicyDenies,involvedObject.uid=" + string(pod.UID)})
		s.must(err, "listing events")
		ours := 0 // kubelets tell as well
		for _, e := range list.Items {
			if strings.HasPrefix(e.ReportingController, "certwright.dev/") {
				ours++
			}
		}
		if ours != 1 {
			s.Errorf("pod %s is told %d times", by, ours)
		}
	}
}

// laterRequestOf returns one of the requests that a pod made after its first one.
func (s *story) laterRequestOf(pod *corev1.Pod) (later *certificatesv1.CertificateSigningRequest) {
	s.Helper()
	s.until("another request of pod "+pod.Name, starting, func(ctx context.Context) error {
		requests, err := s.requestsOf(ctx, pod)
		if err == nil && len(requests) < 2 {
			err = fmt.Errorf("it made %d", len(requests))
		}
		if err == nil {
			later = &requests[1]
		}
		return err
	})
	return later
}

// Approver and signer may tell about requests and pods in all namespaces, and about nothing else there, nor under another name.
func TestTheComponentsTellAboutRequestsAndPodsOnly(t *testing.T) {
	t.Parallel()
	s := tell(t)
	itself := s.serviceAccount(systemNamespace, signer)
	create := func(change func(*eventsv1.Event)) error {
		e := &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, GenerateName: "e2e-"}, EventTime: metav1.NowMicro(), Type: corev1.EventTypeWarning,
			Reason: "InADryRun", Action: "Certificate", Note: "text", ReportingController: "certwright.dev/" + signer, ReportingInstance: "one",
			Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: s.namespace, Name: "app"},
		}
		change(e)
		return itself.Create(s.ctx, e, client.DryRunAll)
	}
	const policy = "certwright-events"
	s.must(create(func(*eventsv1.Event) {}), "telling about a pod")
	s.refusedBy(policy, create(func(e *eventsv1.Event) {
		e.Namespace, e.Regarding = metav1.NamespaceDefault, corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: "node"}
	}), "telling about a node", "Node")
	s.refusedBy(policy, create(func(e *eventsv1.Event) { e.ReportingController = "kubelet" }), "telling as the kubelet", "own names")
	s.refusedBy(policy, create(func(e *eventsv1.Event) { e.Annotations = map[string]string{"a": "b"} }), "telling with annotations", "annotations")
}
