// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/webhook/annotation"
)

const (
	agentUser int64 = 65532

	// Where the agent's container has its volumes, whatever the others see.
	agentDirectory  = annotation.DefaultMountPath
	trustDirectory  = "/var/run/secrets/certwright.dev/trust"
	renewDirectory  = "/var/run/secrets/certwright.dev/renew"
	renewFile       = "renew"
	reloadDirectory = "/reload"

	// spiffeDirectory is the same in all containers.
	spiffeDirectory = "/run/certwright/spiffe"
	spiffeSocket    = spiffeDirectory + "/agent.sock"
	// spiffeEndpoint is the variable that libraries look at (SPIFFE Workload
	// Endpoint, section 4).
	spiffeEndpoint = "SPIFFE_ENDPOINT_SOCKET"

	// Files that the agent writes.
	anchorsFile = "ca.crt"
	bundleFile  = "ca-bundle.crt" // anchors and public roots

	metricsPortName = "agent-metrics"

	// startupFailures is how often the startup probe may fail before the kubelet
	// starts the agent anew: a week of seconds, since a person may have to approve.
	startupFailures = 7 * 24 * 60 * 60
)

// Configure fills in what the config of the agent says about its container, which
// Agent will make from the same ask.
func Configure(config *agent.Config, ask annotation.Ask) {
	config.Directory = agentDirectory
	for n := range bundles(ask) {
		config.TrustBundleFiles = append(config.TrustBundleFiles, path.Join(trustDirectory, trustFile(n)))
	}
	config.TrustOnly = ask.TrustOnly()
	config.PublicRoots = slices.ContainsFunc(ask.TrustEnv, func(v annotation.Variable) bool { return v.Replaces })
	config.Formats = ask.Formats
	config.Once = ask.Delivery == annotation.DeliveryInit
	if renews(ask) {
		config.RenewFile = path.Join(renewDirectory, renewFile)
	}
	if ask.Reloads() {
		config.Reload = &ask.Reload
	}
	if ask.SPIFFESocket {
		config.SPIFFESocket = spiffeSocket
	}
	if ask.MetricsPort != 0 {
		config.MetricsAddress = fmt.Sprintf(":%d", ask.MetricsPort)
	}
}

// bundles are the signerNames whose bundles the agent merges, its own first.
func bundles(ask annotation.Ask) []string {
	if ask.TrustOnly() {
		return ask.Trust
	}
	return append([]string{ask.SignerName}, ask.Trust...)
}

// renews tells whether people may ask the agent to renew.
func renews(ask annotation.Ask) bool {
	return !ask.TrustOnly() && ask.Delivery != annotation.DeliveryInit
}

// Agent are the parts of a pod that the agent serves; ask.Delivery is agent or init.
// The error is an annotation.Refusal where the author of the pod can mend it.
func (i Injector) Agent(pod *corev1.Pod, ask annotation.Ask, config agent.Config) (Parts, error) {
	container, err := i.container(config)
	if err != nil {
		return Parts{}, err
	}
	if ask.Delivery == annotation.DeliveryAgent {
		stay(&container)
	}
	parts := Parts{
		agent: &container, containers: ask.Containers, supplementalGroup: SharedGroup,
		volumes: []corev1.Volume{memory(TLSVolume, tlsBytes), i.trustVolume(bundles(ask))},
		mounts:  []corev1.VolumeMount{tlsMount(ask)},
		env:     trustEnv(ask),
	}
	mount := func(name, directory string, readOnly bool) {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: directory, ReadOnly: readOnly})
	}
	mount(TLSVolume, agentDirectory, false)
	mount(TrustVolume, trustDirectory, true)
	if ask.TrustOnly() {
		mount(TrustVolume, tokenDirectory, true) // where the API server would put a token otherwise, which nothing is done with here
	} else {
		parts.volumes = append(parts.volumes, tokenVolume())
		mount(TokenVolume, tokenDirectory, true)
	}
	if renews(ask) {
		parts.volumes = append(parts.volumes, renewVolume())
		mount(RenewVolume, renewDirectory, true)
	}
	if ask.SPIFFESocket {
		parts.volumes = append(parts.volumes, memory(SPIFFEVolume, spiffeBytes))
		mount(SPIFFEVolume, spiffeDirectory, false)
		parts.mounts = append(parts.mounts, corev1.VolumeMount{Name: SPIFFEVolume, MountPath: spiffeDirectory, ReadOnly: true})
		parts.env = append(parts.env, corev1.EnvVar{Name: spiffeEndpoint, Value: "unix://" + spiffeSocket})
	}
	if ask.ReloadVolume != "" {
		mount(ask.ReloadVolume, reloadDirectory, true)
	}
	return parts, parts.adapt(pod, ask)
}

// adapt fits the agent's container into the pod.
func (p *Parts) adapt(pod *corev1.Pod, ask annotation.Ask) error {
	var refusal annotation.Refusal
	if ask.ReloadVolume != "" {
		refusal = append(refusal, checkReloadVolume(pod, ask.ReloadVolume)...)
	}
	if ask.Reload.Process != "" {
		user, problem := checkSignal(pod, ask.Containers)
		if problem != "" {
			refusal.Addf("annotation %s: %s", annotation.ReloadSignal, problem)
		}
		p.shareProcesses = true
		p.agent.SecurityContext.RunAsUser = ptr.To(user)
		// A pod that says itself that it runs as root gives nothing to an agent that does, without capabilities.
		p.agent.SecurityContext.RunAsNonRoot = ptr.To(user != 0)
	}
	if port := ask.MetricsPort; port != 0 {
		for c := range Workload(pod) {
			if slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == port }) {
				refusal.Addf("annotation %s: container %s has port %d already, use another one", annotation.MetricsPort, annotation.Shorten(c.Name), port)
			}
		}
		p.agent.Ports = []corev1.ContainerPort{{Name: metricsPortName, ContainerPort: port, Protocol: corev1.ProtocolTCP}}
		if pod.Spec.HostNetwork { // as the API server sets it
			p.agent.Ports[0].HostPort = port
		}
	}
	if refusal != nil {
		return refusal
	}
	return nil
}

// trustEnv are the variables for the trust anchors, as far as a container leaves
// them open. What replaces the roots of a program holds the public ones too.
func trustEnv(ask annotation.Ask) (env []corev1.EnvVar) {
	for _, variable := range ask.TrustEnv {
		file := anchorsFile
		if variable.Replaces {
			file = bundleFile
		}
		env = append(env, corev1.EnvVar{Name: variable.Name, Value: escape(path.Join(ask.MountPath, file))})
	}
	return env
}

// escape keeps the kubelet from expanding $(NAME) in a path.
func escape(value string) string { return strings.ReplaceAll(value, "$", "$$") }

func (i Injector) container(config agent.Config) (corev1.Container, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return corev1.Container{}, fmt.Errorf("encoding agent config: %w", err)
	}
	return corev1.Container{
		Name:            AgentContainer,
		Image:           i.AgentImage,
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
	}, nil
}

// stay makes the agent a native sidecar: the next container starts when the files
// are there.
func stay(container *corev1.Container) {
	container.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	container.StartupProbe = &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/certwright-agent", "health"}}},
		PeriodSeconds:    1,
		TimeoutSeconds:   5,
		SuccessThreshold: 1,
		FailureThreshold: startupFailures,
	}
}
