// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/webhook/annotation"
)

// KeyProblem says why no mode that the kubelet gives to a key lets the pod's
// containers read it and nobody else, and what to do; "" when one does.
func KeyProblem(pod *corev1.Pod) string {
	context := pod.Spec.SecurityContext
	if context != nil && (context.FSGroup != nil || context.RunAsUser != nil && sameUser(pod)) {
		return ""
	}
	return fsGroupProblem(pod)
}

// sameUser tells whether no container says another user than the pod. One that says
// none, such as those of "kubectl debug", has the pod's.
func sameUser(pod *corev1.Pod) bool {
	for c := range Workload(pod) {
		if user := runAsUser(pod, c); *user != *pod.Spec.SecurityContext.RunAsUser {
			return false
		}
	}
	return true
}

// fsGroupProblem says why an fsGroup is not for us to set, and what to do; "" when
// it is. A kubelet gives the files of most kinds of volumes to that group. In those
// that live no longer than the pod that is harmless; in others it takes long, stays
// and may lock others out.
func fsGroupProblem(pod *corev1.Pod) string {
	for i := range pod.Spec.Volumes {
		v := pod.Spec.Volumes[i].VolumeSource
		harmless := v.EmptyDir != nil || v.Secret != nil || v.ConfigMap != nil || v.DownwardAPI != nil || v.Projected != nil ||
			v.HostPath != nil || v.NFS != nil || v.Image != nil // the kubelet leaves these three as they are
		if !harmless {
			return fmt.Sprintf("with the volume %s, a kubelet can give the key to the pod's containers only by an fsGroup or user that the pod itself says: set spec.securityContext.fsGroup (or runAsUser, for all containers), or set annotation %s to %s",
				annotation.Shorten(pod.Spec.Volumes[i].Name), annotation.Delivery, annotation.DeliveryAgent)
		}
	}
	return ""
}

// runAsUser is the user of a container as far as the pod says it.
func runAsUser(pod *corev1.Pod, c *corev1.Container) *int64 {
	if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
		return c.SecurityContext.RunAsUser
	}
	if pod.Spec.SecurityContext != nil {
		return pod.Spec.SecurityContext.RunAsUser
	}
	return nil
}

// checkSignal finds what keeps the agent from signalling the containers that see the
// files. A process may signal those of its own user only (kill(2)), as the agent
// has no capability, and it must not see those of the node.
func checkSignal(pod *corev1.Pod, containers []string) (user int64, problem string) {
	switch share := pod.Spec.ShareProcessNamespace; {
	case pod.Spec.HostPID:
		return 0, "the processes of the node are no business of the agent: remove spec.hostPID, or use another way to reload"
	case share != nil && !*share:
		return 0, "needs a process namespace that the containers share: remove spec.shareProcessNamespace, or use another way to reload"
	}
	var found *int64
	for c := range Workload(pod) {
		if !Selected(c, containers) {
			continue
		}
		of := runAsUser(pod, c)
		if of == nil {
			return 0, fmt.Sprintf("the agent has to run as the user of the process, which is not known for container %s: set its securityContext.runAsUser, or spec.securityContext.runAsUser", annotation.Shorten(c.Name))
		}
		if found != nil && *found != *of {
			return 0, fmt.Sprintf("the agent has to run as the user of the process, and the containers that see the files run as users %d and %d: give them one user, or list only those with the process in %s", *found, *of, annotation.Containers)
		}
		found = of
	}
	if found == nil {
		return 0, "no container sees the files"
	}
	return *found, ""
}

// checkReloadVolume finds what keeps the agent from running a program of a volume. It
// runs with the agent's token, so nothing that runs beside the agent may write there;
// an init container that ends may, to bring the program.
func checkReloadVolume(pod *corev1.Pod, name string) (refusal annotation.Refusal) {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i < 0 || IsOurVolume(name) {
		refusal.Addf("annotation %s: %s", annotation.ReloadVolume, annotation.NotAllowed(name, "the name of a volume that the pod has itself"))
		return refusal
	}
	if !reachedByMountsAlone(pod.Spec.Volumes[i].VolumeSource) {
		refusal.Addf("annotation %s: whoever reaches by another way what is in volume %s, such as by a second volume of the same source, could have the agent run anything, with its token: use an emptyDir that an init container fills, or a volume of kind image, configMap, secret, downwardAPI or projected",
			annotation.ReloadVolume, name)
	}
	check := func(c *corev1.Container) {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == name && !m.ReadOnly }) {
			refusal.Addf("annotation %s: container %s may write to volume %s and so have the agent run anything, with its token: set readOnly: true where the container mounts it; let an init container write what has to be there",
				annotation.ReloadVolume, annotation.Shorten(c.Name), name)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name != AgentContainer && ptr.Deref(c.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
			check(c)
		}
	}
	for i := range pod.Spec.Containers {
		check(&pod.Spec.Containers[i])
	}
	return refusal
}

// reachedByMountsAlone tells whether containers reach what is in a volume by mounts of
// this volume and in no other way: it is made for this volume of this pod. A claim, a
// path of the node or a share can be another volume too, of this pod or of others, and
// which of them are the same is not to be seen in all cases. A kind that is not known
// here counts as such.
func reachedByMountsAlone(v corev1.VolumeSource) bool {
	return v.EmptyDir != nil || v.Image != nil || v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}
