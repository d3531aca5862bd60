// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// While the webhook is down, pods that do not ask start as ever, and pods that ask are refused rather than started in
// clear text.
func TestInvariant7_AnOutageOfTheWebhookTouchesOnlyPodsThatAsk(t *testing.T) {
	s := tell(t)
	s.makeServiceAccounts("app")
	s.scale(webhook, 0)
	s.until("the endpoints of the webhook to go", starting, func(ctx context.Context) error {
		var slices discoveryv1.EndpointSliceList
		if err := admin.List(ctx, &slices, client.InNamespace(systemNamespace), client.MatchingLabels{discoveryv1.LabelServiceName: webhook}); err != nil {
			return err
		}
		for _, slice := range slices.Items {
			if len(slice.Endpoints) > 0 {
				return fmt.Errorf("there are %d", len(slice.Endpoints))
			}
		}
		return nil
	})
	s.idlePod("plain", "app")
	err := admin.Create(s.ctx, s.newPod("asks", s.annotated("asks"), "app", demo("app", 1000, "server")))
	if err == nil {
		s.Fatal("a pod that asks was admitted while the webhook is down")
	}
	s.contains("the refusal", err.Error(), "pods.certwright.dev")

	s.restore(webhook)
	asks := s.newPod("asks", s.annotated("asks"), "app", demo("app", 1000, "server"))
	s.make(asks)
	if c := asks.Spec.InitContainers; len(c) != 1 || c[0].Name != agentContainer {
		s.Errorf("the webhook is back and the pod got no agent: init containers %v", c)
	}
}

// scale sets the replicas of a component until the story ends.
func (s *story) scale(component string, replicas int32) {
	s.Helper()
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: component}}
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	s.Cleanup(func() { s.restore(component) })
	s.must(admin.Patch(s.ctx, deployment, client.RawPatch(types.MergePatchType, []byte(patch))), "scaling %s", component)
	s.must(rolledOut(s.ctx, component), "scaling %s", component)
}

// restore gives a component its two replicas back.
func (s *story) restore(component string) {
	s.Helper()
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: component}}
	s.must(admin.Patch(s.ctx, deployment, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":2}}`))), "scaling %s back", component)
	s.must(rolledOut(s.ctx, component), "scaling %s back", component)
	s.must(admits(s.ctx), "waiting until pods are admitted again")
}

// What a pod asks for wrongly is refused when it is created, by a message that says where, what and what is allowed.
func TestWrongAnnotationsAreRefusedByName(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.makeServiceAccounts("app")
	for _, c := range []struct {
		name string
		pod  metav1.ObjectMeta
		want []string
	}{
		{"an unknown annotation", s.annotated("app", "dnsnames", "x.example.com"), []string{"certwright.dev/dnsnames", "unknown", "certwright.dev/dns-names"}},
		{"a duration that is too short", s.annotated("app", "duration", "5m"), []string{"certwright.dev/duration", `"5m"`, "at least 10m"}},
		{"a duration without a unit", s.annotated("app", "duration", "3600"), []string{"certwright.dev/duration", `"3600"`}},
		{"an unknown key algorithm", s.annotated("app", "key-algorithm", "DSA"), []string{"certwright.dev/key-algorithm", `"DSA"`, "ECDSA-P256"}},
		{"an unknown usage", s.annotated("app", "usages", "server auth,world domination"), []string{"certwright.dev/usages", `"world domination"`, "client auth"}},
		{"no DNS name", s.annotated("app", "dns-names", "Not A Name"), []string{"certwright.dev/dns-names", `"Not A Name"`}},
		{"a container that is not there", s.annotated("app", "containers", "sidecar"), []string{"certwright.dev/containers", `"sidecar"`, "app"}},
		{"a relative path", s.annotated("app", "mount-path", "tls"), []string{"certwright.dev/mount-path", `"tls"`, "absolute"}},
		{"an unknown delivery", s.annotated("app", "delivery", "pigeon"), []string{"certwright.dev/delivery", `"pigeon"`, "agent", "init"}},
		{"a signer of Kubernetes", s.annotated("app", "auto-tls", "kubernetes.io/kubelet-serving"), []string{"certwright.dev/auto-tls", "kubernetes.io"}},
		{"two mistakes", s.annotated("app", "duration", "soon", "uris", "nowhere"), []string{"certwright.dev/duration", "certwright.dev/uris"}},
	} {
		err := admin.Create(s.ctx, s.newPod("app", c.pod, "app", demo("app", 1000, "server")))
		if err == nil {
			s.Fatalf("%s: the pod was admitted", c.name)
		}
		if !apierrors.IsForbidden(err) {
			s.Errorf("%s: got %v, want Forbidden", c.name, err)
		}
		s.contains(c.name, err.Error(), append(c.want, "this pod cannot get what it asks for")...)
	}
}

// kubectl apply --dry-run=server shows what the pod becomes, and changes nothing.
func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("app")
	pod := s.newPod("app", s.annotated("app"), "app", demo("app", 1000, "server"))
	s.must(admin.Create(s.ctx, pod, client.DryRunAll), "creating a pod in a dry run")
	if c := pod.Spec.InitContainers; len(c) != 1 || c[0].Name != agentContainer {
		s.Errorf("the dry run shows no agent: init containers %v", c)
	}
	if err := admin.Get(s.ctx, client.ObjectKeyFromObject(pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		s.Errorf("the pod of a dry run exists: %v", err)
	}
	for what, list := range map[string]client.ObjectList{"Secrets": &corev1.SecretList{}, "events": &corev1.EventList{}, "pods": &corev1.PodList{}} {
		s.must(admin.List(s.ctx, list, client.InNamespace(s.namespace)), "listing %s", what)
		if n := meta.LenList(list); n != 0 {
			s.Errorf("a dry run left %d %s", n, what)
		}
	}
	var requests certificatesv1.CertificateSigningRequestList
	s.must(admin.List(s.ctx, &requests, client.MatchingFields{"spec.signerName": s.signerName}), "listing requests")
	if len(requests.Items) != 0 {
		s.Errorf("a dry run left %d requests", len(requests.Items))
	}
}
