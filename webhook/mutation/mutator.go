// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/trust/distribution"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

// Mutator changes the pods that ask. All fields but the last are required.
type Mutator struct {
	// AgentImage is the image of the agent's container.
	AgentImage string
	// TrustDomain is the SPIFFE trust domain of the default URI.
	TrustDomain string
	// ClusterDomain is the DNS domain of the cluster, such as cluster.local.
	ClusterDomain string
	// Trust says where trust bundles are: not distribution.Auto.
	Trust distribution.Way
	// PodCertificates says what kubelets can do.
	PodCertificates ability.PodCertificates
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
	case m.Trust != distribution.ClusterTrustBundle && m.Trust != distribution.ConfigMap:
		return fmt.Errorf("trust distribution: %q is not allowed, use %s or %s", m.Trust, distribution.ClusterTrustBundle, distribution.ConfigMap)
	}
	return nil
}

// Mutate changes a pod that asks into one that gets what it asks for. An error
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
		var problems annotation.Refusal
		ask.Delivery, problems = m.choose(pod, ask, in)
		refusal = append(refusal, problems...)
	}
	if refusal != nil {
		return refusal
	}
	parts, err := m.parts(pod, ask, in)
	if err != nil {
		return err
	}
	if refusal := checkMounts(pod, ask, parts.Paths()); refusal != nil {
		return refusal
	}
	parts.Put(pod)
	pod.Annotations[annotation.DeliveredBy] = string(ask.Delivery)
	return nil
}

// parts are what the pod gets, once it is known who delivers.
func (m Mutator) parts(pod *corev1.Pod, ask annotation.Ask, in Facts) (inject.Parts, error) {
	injector := inject.Injector{AgentImage: m.AgentImage, Trust: m.Trust}
	if ask.Delivery == annotation.DeliveryKubelet {
		return injector.Kubelet(pod, ask), nil
	}
	var config agent.Config
	if !ask.TrustOnly() {
		var err error
		if config, err = m.certificate(pod, ask, in); err != nil {
			return inject.Parts{}, err
		}
	}
	inject.Configure(&config, ask)
	if err := config.Validate(); err != nil {
		return inject.Parts{}, fmt.Errorf("configuring the agent: %w", err)
	}
	return injector.Agent(pod, ask, config)
}

// certificate is what the agent gets to know about the certificate.
func (m Mutator) certificate(pod *corev1.Pod, ask annotation.Ask, in Facts) (agent.Config, error) {
	config := agent.Config{
		SignerName:   ask.SignerName,
		DNSNames:     ask.DNSNames,
		URIs:         ask.URIs,
		IPAddresses:  ask.IPAddresses,
		Usages:       ask.Usages,
		Duration:     agent.Duration(ask.Duration),
		KeyAlgorithm: ask.KeyAlgorithm,
	}
	if config.Usages == nil {
		config.Usages = annotation.DefaultUsages(ask.KeyAlgorithm)
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
		return agent.Config{}, annotation.Refusal{noNames}
	}
	return config, nil
}

// noNames is why a pod is refused that asks for a certificate of nothing.
const noNames = "annotations " + annotation.DNSNames + ", " + annotation.URIs + ", " + annotation.IPAddresses +
	": all of them ask for none, ask for at least one name or leave one of the first two out for its default"

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
		if pod.Spec.Containers[i].Name == inject.AgentContainer {
			refusal.Addf("spec.containers[%d].name: %q is Certwright's own, use another name", i, inject.AgentContainer)
		}
	}
	return refusal
}

// checkContainers finds names of containers that the pod does not have.
func checkContainers(pod *corev1.Pod, ask annotation.Ask) (refusal annotation.Refusal) {
	var names []string
	for c := range inject.Workload(pod) {
		names = append(names, c.Name)
	}
	allowed := "names of the pod's containers: " + annotation.Shorten(strings.Join(names, ", "))
	for _, name := range ask.Containers {
		if !slices.Contains(names, name) {
			refusal.Addf("annotation %s: %s", annotation.Containers, annotation.NotAllowed(name, allowed))
		}
	}
	return refusal
}

// checkMounts finds volumes of the pod where ours belong.
func checkMounts(pod *corev1.Pod, ask annotation.Ask, directories []string) (refusal annotation.Refusal) {
	for c := range inject.Workload(pod) {
		if !inject.Selected(c, ask.Containers) {
			continue
		}
		for _, mount := range c.VolumeMounts {
			if inject.IsOurVolume(mount.Name) {
				continue
			}
			for _, directory := range directories {
				if within(mount.MountPath, directory) {
					refusal.Addf("container %s mounts volume %s at %s, where %s or list other containers in %s",
						annotation.Shorten(c.Name), annotation.Shorten(mount.Name), annotation.Shorten(mount.MountPath), belongs(ask, directory), annotation.Containers)
				}
			}
		}
	}
	return refusal
}

// belongs says what is in a directory, and how to get it elsewhere.
func belongs(ask annotation.Ask, directory string) string {
	switch {
	case directory != ask.MountPath:
		return "the socket belongs: mount that elsewhere"
	case ask.TrustOnly():
		return "the trust bundle belongs: set annotation " + annotation.TrustMountPath + " to another path"
	default:
		return "the certificate belongs: set annotation " + annotation.MountPath + " to another path"
	}
}

// within tells whether name is dir or below it.
func within(name, dir string) bool {
	name = path.Clean(name)
	return name == dir || strings.HasPrefix(name, dir+"/")
}
