// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

// Mutate∘Mutate = Mutate, and so for the patch, over pods of many shapes, in clusters of several kinds and with another injector in
// between.
func TestIdempotent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	delivered := map[string]int{}
	for i := range 600 {
		c := clusters[random.IntN(len(clusters))]
		pod := randomPod(random)
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		_, result := apply(t, c.Mutator, raw, c.Facts)
		c.assertSettled(t, result)
		between := decodePod(t, result)
		interfere(random, between)
		if raw, err = json.Marshal(between); err != nil {
			t.Fatal(err)
		}
		c = clusters[random.IntN(len(clusters))] // which may have changed in between
		_, result = apply(t, c.Mutator, raw, c.Facts)
		c.assertSettled(t, result)
		if t.Failed() {
			t.Fatalf("pod %d: %s", i, raw)
		}
		delivered[decodePod(t, result).Annotations[annotation.DeliveredBy]]++
	}
	for _, way := range []string{"agent", "init", "kubelet"} {
		if delivered[way] < 50 {
			t.Errorf("delivered: %v", delivered)
		}
	}
}

// cluster is what a pod meets.
type cluster struct {
	Mutator
	Facts
}

// clusters in which agents deliver, and kubelets may.
var clusters = func() []cluster {
	able := testMutator
	able.PodCertificates = ability.PodCertificates{Version: "v1", EveryKubelet: true}
	return []cluster{{testMutator, shop}, {able, kubeletFacts}, {able, shop}}
}()

// kubeletFacts has a Signer for kubelets.
var kubeletFacts = Facts{Namespace: "shop", Signer: &v1alpha1.Signer{
	ObjectMeta: metav1.ObjectMeta{Name: "internal"},
	Spec: v1alpha1.SignerSpec{
		SignerName: signer, PodCertificates: &v1alpha1.PodCertificates{}, Backends: []v1alpha1.Backend{{Name: "local", CA: &v1alpha1.CA{}}},
	},
}}

// assertSettled checks that another visit changes nothing, and what must hold of
// every pod that was let through.
func (c cluster) assertSettled(t *testing.T, raw []byte) {
	t.Helper()
	if again, _ := apply(t, c.Mutator, raw, c.Facts); again != nil {
		t.Errorf("another visit changes the pod: %s", again)
	}
	pod := decodePod(t, raw)
	ask, err := annotation.Parse(pod.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	by := annotation.Way(pod.Annotations[annotation.DeliveredBy])
	agents := 0
	for _, container := range pod.Spec.InitContainers {
		if container.Name == inject.AgentContainer {
			agents++
		}
	}
	if by == annotation.DeliveryKubelet {
		if agents != 0 {
			t.Errorf("%d agents beside the kubelet", agents)
		}
	} else if first := pod.Spec.InitContainers[0]; agents != 1 || first.Name != inject.AgentContainer || first.Image != testMutator.AgentImage || first.Command != nil {
		t.Errorf("%d agents; the first init container is %s, image %s", agents, first.Name, first.Image)
	}
	volumes := map[string]int{}
	for _, volume := range pod.Spec.Volumes {
		volumes[volume.Name]++
		if inject.IsOurVolume(volume.Name) && (volume.HostPath != nil || (volume.Projected == nil) == (volume.EmptyDir == nil)) {
			t.Errorf("volume %s is %+v", volume.Name, volume.VolumeSource)
		}
	}
	if volumes[inject.TLSVolume] != 1 || by == annotation.DeliveryKubelet && volumes[inject.TokenVolume] != 0 {
		t.Errorf("volumes are %v", volumes)
	}
	for c := range inject.Workload(pod) {
		assertMounts(t, c, ask, ask.Containers == nil || c.Name == ask.Containers[0])
	}
}

// assertMounts checks that a container sees what it should, and nothing that is the agent's.
func assertMounts(t *testing.T, c *corev1.Container, ask annotation.Ask, selected bool) {
	t.Helper()
	seen, sockets := 0, 0
	for _, mount := range c.VolumeMounts {
		switch mount.Name {
		case inject.TokenVolume, inject.TrustVolume, inject.RenewVolume:
			t.Errorf("container %s mounts %s", c.Name, mount.Name)
		case inject.TLSVolume:
			seen++
			if mount.MountPath != ask.MountPath || !mount.ReadOnly {
				t.Errorf("container %s mounts %+v", c.Name, mount)
			}
		case inject.SPIFFEVolume:
			sockets++
		}
	}
	want := 0
	if selected {
		want = 1
	}
	if seen != want || ask.SPIFFESocket && sockets != want || !ask.SPIFFESocket && sockets != 0 {
		t.Errorf("container %s mounts the files %d times and sockets %d times, want %d", c.Name, seen, sockets, want)
	}
}

func randomPod(random *rand.Rand) *corev1.Pod {
	pod := newPod()
	sometimes := func(change ...func(*corev1.Pod)) {
		if random.IntN(4) == 0 {
			for _, c := range change {
				c(pod)
			}
		}
	}
	sometimes(annotate(annotation.Delivery, "init"))
	sometimes(annotate(annotation.Containers, "web"))
	sometimes(annotate(annotation.Trust, "a.b/c,a.b/d"))
	sometimes(annotate(annotation.TrustEnv, "SSL_CERT_FILE,NODE_EXTRA_CA_CERTS"))
	sometimes(annotate(annotation.Formats, "JKS"))
	sometimes(annotate(annotation.DeliveredBy, "kubelet"))
	sometimes(annotate(annotation.MetricsPort, "9402"), annotate(annotation.SPIFFESocket, "true"), annotate(annotation.Delivery, "auto"))
	sometimes(func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{annotation.Trust: "a.b/c"}
		sometimes(annotate(annotation.TrustMountPath, "/trust"))
		sometimes(annotate(annotation.Trust, "a.b/c,a.b/d"))
	})
	if pod.Annotations[annotation.AutoTLS] != "" {
		sometimes(annotate(annotation.MountPath, "/tls"))
	}
	for i := range random.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, randomContainer(random, fmt.Sprint("c", i)))
	}
	for i := range random.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(random, fmt.Sprint("i", i)))
	}
	sometimes(func(pod *corev1.Pod) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(random, inject.AgentContainer))
	})
	sometimes(func(pod *corev1.Pod) { pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data"}) })
	for _, name := range []string{inject.TLSVolume, inject.TokenVolume, inject.RenewVolume, inject.TLSVolume} {
		sometimes(func(pod *corev1.Pod) {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
		})
	}
	sometimes(func(pod *corev1.Pod) {
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroups: []int64{1, 2}}
	})
	sometimes(func(pod *corev1.Pod) {
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}
	})
	return pod
}

func randomContainer(random *rand.Rand, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "example.com/x:1", Command: []string{"x"}}
	for i, volume := range []string{"data", "more", inject.TLSVolume, inject.TokenVolume, inject.SPIFFEVolume} {
		if random.IntN(3) == 0 {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: fmt.Sprint("/m", i)})
		}
	}
	if random.IntN(2) == 0 { // all of it valid, though the merge keys repeat
		c.Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}}
		c.Ports = []corev1.ContainerPort{{ContainerPort: 53, Protocol: corev1.ProtocolTCP}, {ContainerPort: 53, Protocol: corev1.ProtocolUDP}}
	}
	if random.IntN(4) == 0 {
		c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	}
	return c
}

// interfere does what other injectors do.
func interfere(random *rand.Rand, pod *corev1.Pod) {
	extra := randomContainer(random, "extra")
	switch random.IntN(3) {
	case 0:
		pod.Spec.InitContainers = append([]corev1.Container{extra}, pod.Spec.InitContainers...)
	case 1:
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, extra)
	default:
		pod.Spec.Containers = append([]corev1.Container{extra}, pod.Spec.Containers...)
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if random.IntN(2) == 0 {
				list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: "injected", MountPath: "/injected"})
			}
		}
	}
	pod.Spec.Volumes = append([]corev1.Volume{{Name: "injected"}}, pod.Spec.Volumes...)
}
