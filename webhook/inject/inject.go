// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package inject puts into a pod what brings it its files: the agent with its volumes, or a volume that the kubelet fills.
//
// What it promises: a pod holds exactly what is wanted under Certwright's names afterwards, whatever it held there before; the
// volumes that hold the agent's identity are mounted in no other container; nothing else of the pod changes or moves; and done
// twice it is the same as once.
package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/annotation"
)

const (
	// AgentContainer is the name of the agent's init container. What a pod holds
	// under this name is replaced.
	AgentContainer = "certwright-agent"
	// SharedGroup is the supplemental group by which the pod's containers may read
	// the key that the agent writes. It is below 65536, so that it exists in pods
	// with a user namespace too, and nobody's by default.
	SharedGroup int64 = 61057
)

// Injector makes what pods get. All fields are required.
type Injector struct {
	// AgentImage is the image of the agent's container.
	AgentImage string
	// Trust says where trust bundles are: not distribution.Auto.
	Trust distribution.Way
}

// Parts are what a pod gets.
type Parts struct {
	// agent is the first init container; nil for none.
	agent   *corev1.Container
	volumes []corev1.Volume
	// containers that get mounts and env, by name; nil for all.
	containers []string
	mounts     []corev1.VolumeMount
	env        []corev1.EnvVar
	// supplementalGroup and fsGroup are 0 for none.
	supplementalGroup, fsGroup int64
	shareProcesses             bool
}

// Put puts the parts into the pod. What is there under our names is replaced
// where it stands, so that nothing moves without need. Every field that the API
// server would set by default is set in them, or the second visit of the same pod
// would differ from the first.
func (p Parts) Put(pod *corev1.Pod) {
	pod.Spec.InitContainers = p.putAgent(pod.Spec.InitContainers)
	pod.Spec.Volumes = p.putVolumes(pod.Spec.Volumes)
	for c := range Workload(pod) {
		if !Selected(c, p.containers) {
			c.VolumeMounts = putMounts(c.VolumeMounts)
			continue
		}
		c.VolumeMounts = putMounts(c.VolumeMounts, p.mounts...)
		c.Env = putEnv(c.Env, p.env)
	}
	p.putSecurityContext(pod)
	if p.shareProcesses {
		pod.Spec.ShareProcessNamespace = &p.shareProcesses
	}
}

// Paths are where the selected containers get mounts.
func (p Parts) Paths() []string {
	paths := make([]string, len(p.mounts))
	for i, mount := range p.mounts {
		paths[i] = mount.MountPath
	}
	return paths
}

// putAgent makes the agent the first init container, so that the certificate is
// there before any other container starts, other init containers included.
func (p Parts) putAgent(containers []corev1.Container) (result []corev1.Container) {
	if p.agent != nil {
		result = append(result, *p.agent)
	}
	for _, c := range containers {
		if c.Name != AgentContainer {
			result = append(result, c)
		} else if p.agent != nil {
			keepDefaulted(&result[0], c)
		}
	}
	return result
}

// keepDefaulted keeps what the cluster adds to a container that leaves it open:
// the resize policy, and the resources that a LimitRange fills in. Without them
// the pod would not be admitted.
func keepDefaulted(container *corev1.Container, found corev1.Container) {
	container.ResizePolicy = found.ResizePolicy
	keep := func(into, from corev1.ResourceList) {
		for name, quantity := range from {
			if _, ours := into[name]; !ours {
				into[name] = quantity
			}
		}
	}
	keep(container.Resources.Requests, found.Resources.Requests)
	keep(container.Resources.Limits, found.Resources.Limits)
}

// putVolumes replaces volumes of our names where they stand, and removes what is
// not wanted or there twice. New ones go to the end.
func (p Parts) putVolumes(volumes []corev1.Volume) []corev1.Volume {
	left := slices.Clone(p.volumes)
	var result []corev1.Volume
	for _, volume := range volumes {
		if !IsOurVolume(volume.Name) {
			result = append(result, volume)
			continue
		}
		if i := slices.IndexFunc(left, func(v corev1.Volume) bool { return v.Name == volume.Name }); i >= 0 {
			result = append(result, left[i])
			left = slices.Delete(left, i, i+1)
		}
	}
	return append(result, left...)
}

// putMounts leaves exactly the wanted mounts of our volumes, the first of them
// where one of ours stood.
func putMounts(mounts []corev1.VolumeMount, want ...corev1.VolumeMount) []corev1.VolumeMount {
	var result []corev1.VolumeMount
	for _, mount := range mounts {
		if !IsOurVolume(mount.Name) {
			result = append(result, mount)
			continue
		}
		result = append(result, want...)
		want = nil
	}
	return append(result, want...)
}

// putEnv adds the variables that the container does not set itself.
func putEnv(env, want []corev1.EnvVar) []corev1.EnvVar {
	for _, variable := range want {
		if !slices.ContainsFunc(env, func(e corev1.EnvVar) bool { return e.Name == variable.Name }) {
			env = append(env, variable)
		}
	}
	return env
}

func (p Parts) putSecurityContext(pod *corev1.Pod) {
	if p.supplementalGroup == 0 && p.fsGroup == 0 {
		return
	}
	if pod.Spec.SecurityContext == nil {
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	context := pod.Spec.SecurityContext
	if p.supplementalGroup != 0 && !slices.Contains(context.SupplementalGroups, p.supplementalGroup) {
		context.SupplementalGroups = append(context.SupplementalGroups, p.supplementalGroup)
	}
	if p.fsGroup != 0 {
		context.FSGroup = &p.fsGroup
	}
}

// Workload yields the pod's init containers and containers, without the agent.
func Workload(pod *corev1.Pod) func(yield func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				if list[i].Name != AgentContainer && !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// Selected tells whether a container gets the files, by the names in
// annotation.Ask's Containers.
func Selected(c *corev1.Container, names []string) bool {
	return names == nil || slices.Contains(names, c.Name)
}

// tlsMount is where the selected containers find the files.
func tlsMount(ask annotation.Ask) corev1.VolumeMount {
	return corev1.VolumeMount{Name: TLSVolume, MountPath: ask.MountPath, ReadOnly: true}
}
