// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/agent"
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

	agentUser      int64 = 65532
	agentDirectory       = annotation.DefaultMountPath

	// startupFailures is how often the startup probe may fail before the kubelet
	// starts the agent anew: a week of seconds, since a person may have to approve.
	startupFailures = 7 * 24 * 60 * 60
)

// inject writes the desired state into the pod. What is there under our names is
// replaced where it stands, so that nothing moves without need. Every field that
// the API server would set by default is set here, or the second visit of the
// same pod would differ from the first.
func (m Mutator) inject(pod *corev1.Pod, ask annotation.Ask, config agent.Config) error {
	container, err := m.agentContainer(ask, config)
	if err != nil {
		return err
	}
	pod.Spec.InitContainers = putFirst(pod.Spec.InitContainers, container)
	for _, volume := range m.volumes(ask.SignerName) {
		pod.Spec.Volumes = putVolume(pod.Spec.Volumes, volume)
	}
	for c := range workloadContainers(pod) {
		if ask.Containers == nil || slices.Contains(ask.Containers, c.Name) {
			c.VolumeMounts = putMounts(c.VolumeMounts, corev1.VolumeMount{Name: tlsVolume, MountPath: ask.MountPath, ReadOnly: true})
		} else {
			c.VolumeMounts = putMounts(c.VolumeMounts)
		}
	}
	if pod.Spec.SecurityContext == nil {
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	if groups := &pod.Spec.SecurityContext.SupplementalGroups; !slices.Contains(*groups, SharedGroup) {
		*groups = append(*groups, SharedGroup)
	}
	return nil
}

func (m Mutator) agentContainer(ask annotation.Ask, config agent.Config) (corev1.Container, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return corev1.Container{}, fmt.Errorf("encoding agent config: %w", err)
	}
	container := corev1.Container{
		Name:            AgentContainer,
		Image:           m.AgentImage,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Env: []corev1.EnvVar{
			// The kubelet expands $(NAME) in values; JSON can say $ without it.
			{Name: agent.ConfigEnv, Value: strings.ReplaceAll(string(data), "$", `\u0024`)},
			{Name: agent.PodIPsEnv, ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIPs"},
			}},
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("5m"),
				corev1.ResourceMemory: resource.MustParse("16Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		VolumeMounts:             agentMounts(),
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot:             ptr.To(true),
			RunAsUser:                ptr.To(agentUser),
			RunAsGroup:               ptr.To(SharedGroup),
			ReadOnlyRootFilesystem:   ptr.To(true),
			AllowPrivilegeEscalation: ptr.To(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if ask.Delivery == annotation.DeliveryAgent {
		container.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		container.StartupProbe = &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/certwright-agent", "health"}}},
			PeriodSeconds:    1,
			TimeoutSeconds:   5,
			SuccessThreshold: 1,
			FailureThreshold: startupFailures,
		}
	}
	return container, nil
}

// putFirst makes the agent the first init container, so that the certificate is
// there before any other container starts, other init containers included.
func putFirst(containers []corev1.Container, want corev1.Container) []corev1.Container {
	result := []corev1.Container{want}
	for _, c := range containers {
		if c.Name != want.Name {
			result = append(result, c)
			continue
		}
		keepDefaulted(&result[0], c)
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
