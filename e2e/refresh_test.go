// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The CA is gone while a kubelet wants to refresh a pod's certificate, and longer than that certificate lives. A request that failed
// or was denied would have the kubelet take the certificate away for good. So it waits, the pod keeps what it has, and when the CA is
// back the pod gets another certificate. On the local cluster the kubelet's clock is moved, as all of that takes hours; elsewhere the
// request that waits is told of.
func TestAPodKeepsItsCertificateWhileTheBackendIsDown(t *testing.T) {
	s := tell(t)
	ca := s.newCA(nil)
	secret := s.caSecret(ca)
	o := s.signer(forKubelets, s.bySecret)
	s.policy()
	s.makeServiceAccounts("app")
	clock := kubeletClock{}
	if onThisMachine() {
		clock = s.movableKubelet()
	}
	pod := s.newPod("app", s.annotated("app", "delivery", "kubelet", "duration", "1h"), "app", demo("app", 1000, "look", "--follow"))
	s.make(pod)
	s.podReady(pod)
	var first look
	s.until("the view of the app", soon, func(ctx context.Context) error { return lastLine(ctx, pod, "app", &first) })
	issued := s.newestPodRequest(pod, 1)
	s.podRequestIs(issued, "Issued", "Issued")

	// Without its Secret, a signer that starts has no CA.
	s.must(admin.Delete(s.ctx, secret), "deleting the CA's Secret")
	s.replacePods(signer)
	s.signerIs(o, metav1.ConditionFalse, "SecretNotFound")
	if !onThisMachine() {
		r := s.askForPod(pod)
		s.must(s.node(pod.Spec.NodeName).Create(s.ctx, r.Unstructured), "asking as the pod's node")
		s.waitsUntouched(r)
		secret := s.caSecret(ca)
		s.signerIs(o, metav1.ConditionTrue, "Ready")
		s.podRequestIs(r, "Issued", "Issued")
		s.Logf("the CA is back: %s", secret.Name)
		return
	}

	clock.ahead(s, 50*time.Minute) // past the time to refresh
	s.nudge(issued)
	second := s.newestPodRequest(pod, 2)
	s.waitsUntouched(second)
	clock.ahead(s, 70*time.Minute) // past the certificate's end
	s.nudge(second)
	s.warnedOfPod(pod, "CertificateOverdueForRefresh")
	s.warnedOfPod(pod, "CertificateExpired")
	s.stillHas(pod, first)
	s.waitsUntouched(second)

	// Kubernetes deletes a request that has waited for a quarter of an hour, and the kubelet asks anew.
	s.must(admin.Delete(s.ctx, second.Unstructured), "deleting the request")
	third := s.newestPodRequest(pod, 2)
	if third.GetUID() == second.GetUID() {
		s.Fatalf("the kubelet did not ask anew: request %s is still there", second.GetName())
	}
	s.waitsUntouched(third)
	s.stillHas(pod, first)

	clock.ahead(s, 0) // else the new certificate would be due at once
	s.caSecret(ca)
	s.signerIs(o, metav1.ConditionTrue, "Ready")
	s.podRequestIs(third, "Issued", "Issued")
	s.askedKey(pod, third)
	leaf, err := third.leaf()
	s.must(err, "reading the certificate")
	s.until("the pod to have the new certificate", starting, func(ctx context.Context) error {
		var l look
		if err := lastLine(ctx, pod, "app", &l); err != nil {
			return err
		}
		if want := leaf.SerialNumber.Text(16); l.Certificate.Serial != want {
			return fmt.Errorf("it has certificate %s, want %s", l.Certificate.Serial, want)
		}
		return nil
	})
	s.refresh(pod)
	if pod.Status.ContainerStatuses[0].RestartCount != 0 {
		s.Errorf("the pod did not live through it: %s", describePod(pod))
	}
}

// nudge has the kubelet look at the pod of a request now, and not within two minutes: it does whenever the request changes.
func (s *story) nudge(r podRequest) {
	s.Helper()
	s.change(r.Unstructured, func() { r.SetAnnotations(map[string]string{"e2e.certwright.dev/look-again": time.Now().String()}) })
}

// waitsUntouched checks that nobody said anything about a request, when the signer has looked at it: it tells so by an event about the pod.
func (s *story) waitsUntouched(r podRequest) {
	s.Helper()
	s.until("the signer to look at request "+r.GetName(), soon, func(ctx context.Context) error {
		list, err := kube.CoreV1().Events(r.GetNamespace()).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.InvolvedObject.Name == r.GetName() || e.Related != nil && e.Related.Name == r.GetName() {
				s.Logf("request %s: %s: %s", r.GetName(), e.Reason, e.Message)
				return nil
			}
		}
		return fmt.Errorf("no event of %d speaks of it", len(list.Items))
	})
	s.must(admin.Get(s.ctx, client.ObjectKeyFromObject(r), r.Unstructured), "reading request %s", r.GetName())
	if kind, reason, message := r.verdict(); kind != "" {
		s.Fatalf("request %s is %s while the backend is down: %s: %s", r.GetName(), kind, reason, message)
	}
}

// stillHas checks that the pod has the certificate that it had, in its files, and that its kubelet holds on to it: what was failed or
// denied it counts as that, and not as expired.
func (s *story) stillHas(pod *corev1.Pod, want look) {
	s.Helper()
	s.until("the kubelet to count the certificate as expired", soon, func(ctx context.Context) error {
		text, err := kube.CoreV1().RESTClient().Get().Resource("nodes").Name(pod.Spec.NodeName).SubResource("proxy").Suffix("metrics").DoRaw(ctx)
		if err != nil {
			return err
		}
		var counts []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "kubelet_podcertificate_states{") && strings.Contains(line, strconv.Quote(s.signerName)) {
				counts = append(counts, strings.TrimSpace(line))
			}
		}
		if len(counts) != 1 || !strings.Contains(counts[0], `state="expired"`) {
			return fmt.Errorf("it counts %q", counts)
		}
		return nil
	})
	if l := s.viewOf(pod, "anything", func(look) bool { return true }); l.Certificate.Serial != want.Certificate.Serial {
		s.Errorf("the pod has certificate %s, want %s", l.Certificate.Serial, want.Certificate.Serial)
	}
}
