// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/trust"
	"github.com/certwright/certwright/webhook/annotation"
)

// Mutator puts the agent into the pods that ask. All fields are required.
type Mutator struct {
	// AgentImage is the image of the agent's container.
	AgentImage string
	// TrustDomain is the SPIFFE trust domain of the default URI.
	TrustDomain string
	// ClusterDomain is the DNS domain of the cluster, such as cluster.local.
	ClusterDomain string
	// Trust says where the agent finds the trust bundle: not trust.Auto.
	Trust trust.Distribution
}

// Validate checks the fields, so that a mistake shows when the webhook starts
// and not in the pods.
func (m Mutator) Validate() error {
	switch {
	case m.AgentImage == "":
		return fmt.Errorf("agent image: %q is not allowed, use the image that holds certwright-agent", m.AgentImage)
	case !annotation.IsDomain(m.TrustDomain):
		return fmt.Errorf("trust domain: %q is not allowed, use a DNS name in lower case such as cluster.local", m.TrustDomain)
	case !annotation.IsDomain(m.ClusterDomain):
		return fmt.Errorf("cluster domain: %q is not allowed, use a DNS name in lower case such as cluster.local", m.ClusterDomain)
	case m.Trust != trust.DistributedClusterTrustBundle && m.Trust != trust.DistributedConfigMap:
		return fmt.Errorf("trust distribution: %q is not allowed, use %s or %s", m.Trust, trust.DistributedClusterTrustBundle, trust.DistributedConfigMap)
	}
	return nil
}

// Mutate changes a pod that asks into one that gets its certificate. An error
// leaves the pod as it was; it is an annotation.Refusal when the author of the pod
// can mend it. Applied to its own result, Mutate changes nothing.
func (m Mutator) Mutate(pod *corev1.Pod, in Facts) error {
	ask, err := annotation.Parse(pod.Annotations)
	var refusal annotation.Refusal
	if err != nil && !errors.As(err, &refusal) {
		return err
	}
	refusal = append(refusal, checkPod(pod)...)
	if err == nil {
		refusal = append(refusal, checkContainers(pod, ask)...)
	}
	if refusal != nil {
		return refusal
	}
	config, err := m.config(pod, ask, in)
	if err != nil {
		return err
	}
	return m.inject(pod, ask, config)
}

// config is what the agent gets to know.
func (m Mutator) config(pod *corev1.Pod, ask annotation.Ask, in Facts) (agent.Config, error) {
	config := agent.Config{
		SignerName:      ask.SignerName,
		DNSNames:        ask.DNSNames,
		URIs:            ask.URIs,
		IPAddresses:     ask.IPAddresses,
		Usages:          ask.Usages,
		Duration:        agent.Duration(ask.Duration),
		KeyAlgorithm:    ask.KeyAlgorithm,
		Directory:       agentDirectory,
		TrustBundleFile: path.Join(trustDirectory, trustFile),
		Once:            ask.Delivery == annotation.DeliveryInit,
	}
	if config.DNSNames == nil {
		names, err := m.defaultDNSNames(pod, in)
		if err != nil {
			return agent.Config{}, err
		}
		config.DNSNames = names
	}
	if config.URIs == nil {
		config.URIs = []string{m.defaultURI(pod, in)}
	}
	if len(config.DNSNames)+len(config.URIs)+len(config.IPAddresses) == 0 {
		return agent.Config{}, annotation.Refusal{fmt.Sprintf("annotations %s, %s, %s: all of them ask for none, ask for at least one name or leave one of the first two out for its default",
			annotation.DNSNames, annotation.URIs, annotation.IPAddresses)}
	}
	if err := config.Validate(); err != nil {
		return agent.Config{}, fmt.Errorf("configuring the agent: %w", err)
	}
	return config, nil
}

// checkPod finds what keeps any pod from getting a certificate.
func checkPod(pod *corev1.Pod) (refusal annotation.Refusal) {
	if pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		refusal.Addf("spec.os.name: %q is not allowed, use linux: there is no agent for other systems", pod.Spec.OS.Name)
	}
	if _, static := pod.Annotations[corev1.MirrorPodAnnotationKey]; static {
		refusal.Addf("annotation %s: this is a static pod, which only its node can change; create it through the API instead", corev1.MirrorPodAnnotationKey)
	}
	if n := countItems(pod); n > maxItems {
		refusal.Addf("spec: it holds %d containers, volumes and mounts together, the most is %d", n, maxItems)
	}
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == AgentContainer {
			refusal.Addf("spec.containers[%d].name: %q is Certwright's own, use another name", i, AgentContainer)
		}
	}
	return refusal
}

// checkContainers finds what is wrong between the ask and the pod's containers.
func checkContainers(pod *corev1.Pod, ask annotation.Ask) (refusal annotation.Refusal) {
	var names []string
	for c := range workloadContainers(pod) {
		names = append(names, c.Name)
		if ask.Containers != nil && !slices.Contains(ask.Containers, c.Name) {
			continue
		}
		for _, mount := range c.VolumeMounts {
			if !isOurVolume(mount.Name) && within(mount.MountPath, ask.MountPath) {
				refusal.Addf("container %s mounts volume %s at %s, where the certificate belongs: set annotation %s to another path or list other containers in %s",
					annotation.Shorten(c.Name), annotation.Shorten(mount.Name), annotation.Shorten(mount.MountPath), annotation.MountPath, annotation.Containers)
			}
		}
	}
	allowed := "names of the pod's containers: " + annotation.Shorten(strings.Join(names, ", "))
	for _, name := range ask.Containers {
		if !slices.Contains(names, name) {
			refusal.Addf("annotation %s: %s", annotation.Containers, annotation.NotAllowed(name, allowed))
		}
	}
	return refusal
}

// workloadContainers yields the pod's init containers and containers, without
// the agent.
func workloadContainers(pod *corev1.Pod) func(yield func(*corev1.Container) bool) {
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

// within tells whether name is dir or below it.
func within(name, dir string) bool {
	name = path.Clean(name)
	return name == dir || strings.HasPrefix(name, dir+"/")
}
