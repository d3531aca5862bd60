// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// latecomer is a label of pods about which the API server does not ask the webhook while the story of latecomers is told:
// as if another admission webhook had annotated them after ours had been passed over, or changed them after it.
const latecomer = "e2e.certwright.dev/latecomer"

// A pod that asks and is past the webhook starts only with all that the webhook would have added. One that does not ask is
// none of our business.
func TestInvariant7_NoPodThatAsksStartsWithoutItsAgent(t *testing.T) {
	s := tell(t)
	s.makeServiceAccounts("app")
	s.signer(forKubelets)
	injected := s.newPod("app", s.annotated("app", "delivery", "agent"), "app", demo("app", 1000, "server"))
	s.must(admin.Create(s.ctx, injected, client.DryRunAll), "creating a pod in a dry run")
	byKubelet := s.newPod("app", s.annotated("app", "delivery", "kubelet"), "app", demo("app", 1000, "server"))
	s.must(admin.Create(s.ctx, byKubelet, client.DryRunAll), "creating a pod that the kubelet serves in a dry run")
	s.passOverLatecomers()

	bare := s.newPod("app", s.annotated("app"), "app", demo("app", 1000, "server"))
	s.refusedBy("certwright-pods", s.tryLatecomer(bare), "a pod that was annotated late",
		"no init container certwright-agent", "no volume certwright-tls", "certwright-trust", "certwright-token", "61057", "pod template")
	s.must(s.tryLatecomer(injected), "creating a pod that has all it needs, past the webhook")
	once := injected.DeepCopy()
	once.Annotations["certwright.dev/delivery"], once.Annotations[v1alpha1.AnnotationDeliveredBy] = "init", "init"
	once.Spec.InitContainers[0].RestartPolicy, once.Spec.InitContainers[0].StartupProbe = nil, nil
	s.must(s.tryLatecomer(once), "creating a pod whose agent runs once, past the webhook")
	s.must(s.tryLatecomer(byKubelet), "creating a pod that the kubelet serves, past the webhook")
	volume(&byKubelet.Spec, "certwright-tls").Projected.Sources[0].PodCertificate.SignerName += "-other"
	s.refusedBy("certwright-pods", s.tryLatecomer(byKubelet), "a pod with a certificate of another signerName", "no volume certwright-tls")

	for name, c := range map[string]struct {
		change func(*corev1.PodSpec)
		want   string
	}{
		"another image's container in the agent's place": {func(p *corev1.PodSpec) { p.InitContainers[0].Name = "agent" }, "no init container certwright-agent"},
		"an agent that was not told what to ask":         {func(p *corev1.PodSpec) { p.InitContainers[0].Env = nil }, "CERTWRIGHT_AGENT_CONFIG"},
		"an agent that runs once": {func(p *corev1.PodSpec) {
			p.InitContainers[0].RestartPolicy, p.InitContainers[0].StartupProbe = nil, nil
		}, "restartPolicy"},
		"an agent without a mount": {func(p *corev1.PodSpec) { p.InitContainers[0].VolumeMounts = p.InitContainers[0].VolumeMounts[1:] }, "does not mount certwright-tls"},
		"keys on a disk":           {func(p *corev1.PodSpec) { volume(p, "certwright-tls").EmptyDir.Medium = "" }, "no volume certwright-tls"},
		"another kind of volume for trust": {func(p *corev1.PodSpec) {
			volume(p, "certwright-trust").VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
		}, "no volume certwright-trust"},
		"containers that cannot read the key": {func(p *corev1.PodSpec) { p.SecurityContext.SupplementalGroups = nil }, "supplemental group 61057"},
		"the agent's token in a container": {func(p *corev1.PodSpec) {
			p.Containers[0].VolumeMounts = append(p.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "certwright-token", MountPath: "/token"})
		}, "container app mounts the token"},
	} {
		pod := injected.DeepCopy()
		c.change(&pod.Spec)
		s.refusedBy("certwright-pods", s.tryLatecomer(pod), name, c.want)
	}

	plain := bare.DeepCopy()
	plain.Annotations = nil
	s.must(s.tryLatecomer(plain), "creating a pod without annotations")
	plain.Annotations = map[string]string{"certwright.dev/containers": "app", "example.com/auto-tls": "x"}
	s.must(s.tryLatecomer(plain), "creating a pod with other annotations")
	// The kubelet shows pods that it starts from files; it does not ask whether it may start them.
	mirror := bare.DeepCopy()
	mirror.Annotations[corev1.MirrorPodAnnotationKey] = "hash"
	mirror.Spec.ServiceAccountName, mirror.Spec.NodeName = "", "node"
	s.must(s.tryLatecomer(mirror), "mirroring a static pod")
	delete(mirror.Labels, latecomer)
	s.must(admin.Create(s.ctx, mirror, client.DryRunAll), "mirroring a static pod while the webhook is asked")
	if len(mirror.Spec.InitContainers) > 0 {
		s.Errorf("the webhook changed the mirror of a static pod: %+v", mirror.Spec.InitContainers)
	}
}

// What happens to a pod after it was created is not looked at: it has its agent.
func TestDebuggingAPodThatAsked(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.makeServiceAccounts("app")
	pod := s.newPod("app", s.annotated("app"), "app", demo("app", 1000, "server"))
	s.make(pod)
	debugger := demo("debugger", 1000, "server")
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: debugger.Name, Image: debugger.Image, Args: debugger.Args, SecurityContext: debugger.SecurityContext,
		ImagePullPolicy: debugger.ImagePullPolicy, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}}}
	s.until("an ephemeral container", soon, func(ctx context.Context) error {
		err := admin.SubResource("ephemeralcontainers").Update(ctx, pod, client.DryRunAll)
		if apierrors.IsConflict(err) {
			now := &corev1.Pod{}
			s.must(admin.Get(ctx, client.ObjectKeyFromObject(pod), now), "reading the pod")
			pod.ResourceVersion = now.ResourceVersion
		}
		return err
	})
}

// passOverLatecomers has the API server pass over the webhook for pods with that label until the story ends.
func (s *story) passOverLatecomers() {
	s.Helper()
	o := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhook}}
	set := func(selector *metav1.LabelSelector) {
		s.change(o, func() { o.Webhooks[0].ObjectSelector = selector })
	}
	s.Cleanup(func() { set(&metav1.LabelSelector{}) })
	set(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: latecomer, Operator: metav1.LabelSelectorOpDoesNotExist}}})
	// Every API server takes note of it in its own time; then a wrong annotation is not refused any more.
	s.until("the webhook to be passed over", soon, func(context.Context) error {
		err := s.tryLatecomer(s.newPod("app", s.annotated("app", "duration", "none"), "app", demo("app", 1000, "server")))
		if err != nil && strings.Contains(err.Error(), o.Webhooks[0].Name) {
			return err
		}
		return nil
	})
}

// tryLatecomer creates the pod in a dry run, past the webhook.
func (s *story) tryLatecomer(pod *corev1.Pod) error {
	o := s.newPod(pod.Name, *pod.ObjectMeta.DeepCopy(), pod.Spec.ServiceAccountName)
	o.ResourceVersion, o.UID, o.ManagedFields = "", "", nil
	o.Labels[latecomer] = "true"
	pod.Spec.DeepCopyInto(&o.Spec)
	return admin.Create(s.ctx, o, client.DryRunAll)
}

// volume returns the pod's volume of that name.
func volume(p *corev1.PodSpec, name string) *corev1.Volume {
	i := slices.IndexFunc(p.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	return &p.Volumes[i]
}
