// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
	"github.com/certwright/certwright/webhook/mutation"
)

const podSigner = "example.com/internal"

// asking is a pod that the webhook has not seen.
func asking(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: maps.Clone(annotations)},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "setup"}},
			Containers:     []corev1.Container{{Name: "web"}, {Name: "side"}},
		},
	}
}

// seen is what the webhook makes of a pod, in a cluster whose kubelets can do everything.
func seen(t *testing.T, pod *corev1.Pod, bundles distribution.Way) *corev1.Pod {
	t.Helper()
	mutator := mutation.Mutator{
		AgentImage: "agent", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", Trust: bundles,
		PodCertificates: ability.PodCertificates{Version: "v1", EveryKubelet: true},
	}
	facts := mutation.Facts{Namespace: "shop", Signer: &v1alpha1.Signer{Spec: v1alpha1.SignerSpec{
		SignerName: podSigner, PodCertificates: &v1alpha1.PodCertificates{}, Backends: []v1alpha1.Backend{{CA: &v1alpha1.CA{}}},
	}}}
	if err := mutator.Mutate(pod, facts); err != nil {
		t.Fatal(err)
	}
	return pod
}

func refusesPod(t *testing.T, pod *corev1.Pod) bool {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		t.Fatal(err)
	}
	return refuses(t, "certwright-pods", map[string]any{"object": object})
}

// ways are the pods that the webhook makes in each way of delivery.
var ways = map[string]map[string]string{
	"agent":         {annotation.AutoTLS: podSigner, annotation.Delivery: "agent"},
	"socket":        {annotation.AutoTLS: podSigner, annotation.SPIFFESocket: "true", annotation.Containers: "web"},
	"init":          {annotation.AutoTLS: podSigner, annotation.Delivery: "init"},
	"kubelet":       {annotation.AutoTLS: podSigner, annotation.Containers: "side"},
	"trust":         {annotation.Trust: podSigner},
	"trust, agent":  {annotation.Trust: podSigner, annotation.TrustEnv: "true"},
	"trust, init":   {annotation.Trust: podSigner, annotation.Delivery: "init"},
	"trust, by all": {annotation.Trust: podSigner, annotation.AutoTLS: podSigner, annotation.Formats: "JKS"},
}

// TestPodsGetIn: what the webhook makes of a pod, the policy admits; and what it has not seen, it does not.
func TestPodsGetIn(t *testing.T) {
	for name, annotations := range ways {
		t.Run(name, func(t *testing.T) {
			for _, bundles := range []distribution.Way{distribution.ClusterTrustBundle, distribution.ConfigMap} {
				if refusesPod(t, seen(t, asking(annotations), bundles)) {
					t.Errorf("refused with bundles as %s", bundles)
				}
			}
			if !refusesPod(t, asking(annotations)) {
				t.Error("admitted unseen")
			}
			for _, by := range []string{"agent", "init", "kubelet", "", "x"} {
				pod := asking(annotations)
				pod.Annotations[annotation.DeliveredBy] = by
				if !refusesPod(t, pod) {
					t.Errorf("admitted unseen, as it says that it was delivered by %q", by)
				}
			}
		})
	}
	for name, pod := range map[string]*corev1.Pod{
		"no annotations":         asking(nil),
		"others":                 asking(map[string]string{annotation.Delivery: "agent", "example.com/trust": "x"}),
		"mirror of a static pod": asking(map[string]string{annotation.AutoTLS: podSigner, corev1.MirrorPodAnnotationKey: "x"}),
	} {
		if refusesPod(t, pod) {
			t.Errorf("%s: refused", name)
		}
	}
}

// TestPodsOfAnOlderWebhook: one that does not say who delivers may answer on while this version is installed.
func TestPodsOfAnOlderWebhook(t *testing.T) {
	for _, way := range []string{"agent", "init"} {
		pod := seen(t, asking(ways[way]), distribution.ClusterTrustBundle)
		delete(pod.Annotations, annotation.DeliveredBy)
		if refusesPod(t, pod) {
			t.Errorf("%s: refused", way)
		}
	}
}

// TestPodsThatWereChanged: another webhook, or whoever forges what ours does, gets nothing in that lacks a part.
func TestPodsThatWereChanged(t *testing.T) {
	without := func(name string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
		}
	}
	instead := func(name string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			without(name)(pod)
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
		}
	}
	mounting := func(name string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/x"})
		}
	}
	by := func(way string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Annotations[annotation.DeliveredBy] = way }
	}
	unmounted := func(pod *corev1.Pod) {
		for c := range inject.Workload(pod) {
			c.VolumeMounts = nil
		}
	}
	noAgent := func(pod *corev1.Pod) { pod.Spec.InitContainers = pod.Spec.InitContainers[1:] }
	for name, c := range map[string]struct {
		way    string
		change func(*corev1.Pod)
	}{
		"agent taken away": {"agent", noAgent},
		"agent that ends":  {"agent", func(pod *corev1.Pod) { pod.Spec.InitContainers[0].RestartPolicy = nil }},
		"agent that stays": {"init", func(pod *corev1.Pod) {
			always := corev1.ContainerRestartPolicyAlways
			pod.Spec.InitContainers[0].RestartPolicy = &always
		}},
		"agent that knows nothing":    {"agent", func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Env = nil }},
		"agent without mounts":        {"agent", func(pod *corev1.Pod) { pod.Spec.InitContainers[0].VolumeMounts = nil }},
		"said to be the kubelet":      {"agent", by("kubelet")},
		"said to be init":             {"agent", by("init")},
		"agent said to be nobody":     {"agent", by("")},
		"kubelet said to be an agent": {"kubelet", by("agent")},
		"token for others":            {"agent", mounting(inject.TokenVolume)},
		"no token":                    {"agent", without(inject.TokenVolume)},
		"key on a disk":               {"agent", instead(inject.TLSVolume)},
		"trust of the node":           {"trust, agent", instead(inject.TrustVolume)},
		"socket of the node":          {"socket", instead(inject.SPIFFEVolume)},
		"no group":                    {"init", func(pod *corev1.Pod) { pod.Spec.SecurityContext = nil }},
		"nobody sees it":              {"agent", unmounted},
		"nobody sees the kubelet's":   {"kubelet", unmounted},
		"kubelet without volume":      {"kubelet", without(inject.TLSVolume)},
		"kubelet with the node's":     {"kubelet", instead(inject.TLSVolume)},
		"kubelet with another signer": {"kubelet", func(pod *corev1.Pod) { pod.Spec.Volumes[0].Projected.Sources[0].PodCertificate.SignerName = "a.b/c" }},
		"kubelet without certificate": {"kubelet", func(pod *corev1.Pod) {
			pod.Spec.Volumes[0].Projected.Sources = pod.Spec.Volumes[0].Projected.Sources[1:]
		}},
		"an agent beside the kubelet":  {"kubelet", func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Name = inject.AgentContainer }},
		"bundle that is none":          {"trust", func(pod *corev1.Pod) { pod.Spec.Volumes[0].Projected.Sources = []corev1.VolumeProjection{} }},
		"certificate asked for late":   {"trust", func(pod *corev1.Pod) { pod.Annotations[annotation.AutoTLS] = podSigner }},
		"the same, with an agent":      {"trust, agent", func(pod *corev1.Pod) { pod.Annotations[annotation.AutoTLS] = podSigner }},
		"another delivery asked late":  {"kubelet", func(pod *corev1.Pod) { pod.Annotations[annotation.Delivery] = "agent" }},
		"a socket asked for late":      {"agent", func(pod *corev1.Pod) { pod.Annotations[annotation.SPIFFESocket] = "true" }},
		"token by a container of ours": {"init", func(pod *corev1.Pod) { mounting(inject.TokenVolume)(pod); pod.Spec.Containers[0].Name = "certwright" }},
	} {
		t.Run(name, func(t *testing.T) {
			pod := seen(t, asking(ways[c.way]), distribution.ClusterTrustBundle)
			c.change(pod)
			if !refusesPod(t, pod) {
				t.Error("admitted")
			}
		})
	}
}
