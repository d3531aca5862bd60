// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// dump logs what a person would look at after a failure.
func (s *story) dump() {
	var b strings.Builder
	s.dumpOurs(&b)
	s.dumpRequests(&b)
	s.dumpPods(&b)
	s.dumpComponents(&b)
	s.Logf("what the cluster looked like:\n%s", b.String())
}

func (s *story) dumpOurs(b *strings.Builder) {
	var signers v1alpha1.SignerList
	var policies v1alpha1.CertificatePolicyList
	if err := admin.List(s.ctx, &signers); err != nil {
		fmt.Fprintln(b, err)
	}
	if err := admin.List(s.ctx, &policies); err != nil {
		fmt.Fprintln(b, err)
	}
	for _, o := range signers.Items {
		if o.Spec.SignerName == s.signerName {
			fmt.Fprintf(b, "signer %s: %+v\n", o.Name, o.Status)
		}
	}
	for _, o := range policies.Items {
		if strings.HasPrefix(o.Name, s.name) {
			fmt.Fprintf(b, "policy %s: %+v\n", o.Name, o.Status)
		}
	}
}

func (s *story) dumpRequests(b *strings.Builder) {
	var list certificatesv1.CertificateSigningRequestList
	if err := admin.List(s.ctx, &list, client.MatchingFields{"spec.signerName": s.signerName}); err != nil {
		fmt.Fprintln(b, err)
	}
	for i := range list.Items {
		o := &list.Items[i]
		if len(list.Items) > 20 && len(o.Status.Certificate) > 0 {
			continue
		}
		fmt.Fprintf(b, "request %s by %s: certificate of %d bytes\n", o.Name, o.Spec.Username, len(o.Status.Certificate))
		for _, c := range o.Status.Conditions {
			fmt.Fprintf(b, "  %s %s: %s\n", c.Type, c.Reason, c.Message)
		}
		events, err := eventsAbout(s.ctx, o)
		if err != nil {
			fmt.Fprintln(b, err)
		}
		for _, e := range events {
			fmt.Fprintf(b, "  event %s: %s\n", e.Reason, e.Message)
		}
	}
}

// dumpPods shows the more of each pod's logs the fewer pods there are.
func (s *story) dumpPods(b *strings.Builder) {
	var pods corev1.PodList
	if err := admin.List(s.ctx, &pods, client.InNamespace(s.namespace)); err != nil {
		fmt.Fprintln(b, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		fmt.Fprintf(b, "pod %s: %s\n", pod.Name, describePod(pod))
		s.dumpLogs(b, pod, &corev1.PodLogOptions{TailLines: ptr.To(int64(max(2, 30/len(pods.Items))))}, func(string) bool { return true })
	}
	var events corev1.EventList
	if err := admin.List(s.ctx, &events, client.InNamespace(s.namespace)); err != nil {
		fmt.Fprintln(b, err)
	}
	for _, e := range events.Items {
		if e.Type != corev1.EventTypeNormal {
			fmt.Fprintf(b, "event about %s %s: %s: %s\n", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
}

// dumpComponents shows what they had to say about the story, and what went wrong that is no story's own.
func (s *story) dumpComponents(b *strings.Builder) {
	var pods corev1.PodList
	if err := admin.List(s.ctx, &pods, client.InNamespace(systemNamespace)); err != nil {
		fmt.Fprintln(b, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		fmt.Fprintf(b, "component %s: %s\n", pod.Name, describePod(pod))
		s.dumpLogs(b, pod, &corev1.PodLogOptions{SinceTime: ptr.To(metav1.NewTime(s.began))}, func(line string) bool {
			return strings.Contains(line, s.name) || !strings.Contains(line, "level=INFO") && !strings.Contains(line, "e2e-")
		})
	}
}

// dumpLogs adds the last of those lines of each container that are wanted, each cut short.
func (s *story) dumpLogs(b *strings.Builder, pod *corev1.Pod, options *corev1.PodLogOptions, wanted func(line string) bool) {
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		options.Container = c.Name
		raw, err := kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).DoRaw(s.ctx)
		if err != nil {
			fmt.Fprintf(b, "  %s: no logs: %v\n", c.Name, err)
			continue
		}
		var lines []string
		for line := range strings.Lines(string(raw)) {
			if wanted(line) {
				lines = append(lines, fmt.Sprintf("  %s: %s\n", c.Name, beginning(line, 1, 500)))
			}
		}
		b.WriteString(strings.Join(lines[max(0, len(lines)-20):], ""))
	}
}
