// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/webhook/annotation"
)

// Mutate∘Mutate = Mutate, and so for the patch, over pods of many shapes and with
// another injector in between.
func TestIdempotent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		pod := randomPod(random)
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		_, result := apply(t, testMutator, raw, shop)
		assertSettled(t, result)
		between := decodePod(t, result)
		interfere(random, between)
		if raw, err = json.Marshal(between); err != nil {
			t.Fatal(err)
		}
		_, result = apply(t, testMutator, raw, shop)
		assertSettled(t, result)
		if t.Failed() {
			t.Fatalf("pod %d: %s", i, raw)
		}
	}
}

// assertSettled checks that another visit changes nothing, and what must hold of
// every pod that was let through.
func assertSettled(t *testing.T, raw []byte) {
	t.Helper()
	if again, _ := apply(t, testMutator, raw, shop); again != nil {
		t.Errorf("another visit changes the pod: %s", again)
	}
	pod := decodePod(t, raw)
	if first := pod.Spec.InitContainers[0]; first.Name != AgentContainer || first.Image != testMutator.AgentImage || first.Command != nil {
		t.Errorf("the first init container is %s, image %s", first.Name, first.Image)
	}
	ask, err := annotation.Parse(pod.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	for c := range workloadContainers(pod) {
		var seen int
		for _, mount := range c.VolumeMounts {
			if mount.Name == tokenVolume || mount.Name == trustVolume {
				t.Errorf("container %s mounts %s", c.Name, mount.Name)
			}
			if mount.Name == tlsVolume && mount.MountPath == ask.MountPath && mount.ReadOnly {
				seen++
			}
		}
		want := 1
		if ask.Containers != nil && c.Name != ask.Containers[0] {
			want = 0
		}
		if seen != want {
			t.Errorf("container %s mounts the certificate %d times, want %d", c.Name, seen, want)
		}
	}
}

func randomPod(random *rand.Rand) *corev1.Pod {
	pod := newPod()
	sometimes := func(do func()) {
		if random.IntN(3) == 0 {
			do()
		}
	}
	sometimes(func() { annotate(annotation.Delivery, "init")(pod) })
	sometimes(func() { annotate(annotation.Containers, "web")(pod) })
	sometimes(func() { annotate(annotation.MountPath, "/tls")(pod) })
	for i := range random.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, randomContainer(random, fmt.Sprint("c", i)))
	}
	for i := range random.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(random, fmt.Sprint("i", i)))
	}
	sometimes(func() {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(random, AgentContainer))
	})
	sometimes(func() { pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data"}) })
	sometimes(func() {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: tlsVolume, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
	})
	sometimes(func() { pod.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroups: []int64{1, 2}} })
	return pod
}

func randomContainer(random *rand.Rand, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "example.com/x:1", Command: []string{"x"}}
	for i, volume := range []string{"data", "more", tlsVolume, tokenVolume} {
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
