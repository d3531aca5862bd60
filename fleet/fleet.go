// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet finds the pods that have certificates of a signerName, or verify them, and says what brings them there.
//
// What a pod is made of decides, and not the annotations that anybody who may change the pod can write later. All of it was chosen by
// the pod's author: it is for telling people, and what is printed for them to paste is made of names that Kubernetes' own rules make
// harmless.
package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/rights"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

// Delivery is what brings a pod its certificate or trust bundle.
type Delivery string

// The deliveries.
const (
	// Agent is a sidecar, which renews.
	Agent Delivery = "agent"
	// Init is an init container that ended: nothing is ever renewed.
	Init Delivery = "init"
	// Kubelet is a projected volume, which the kubelet keeps fresh.
	Kubelet Delivery = "kubelet"
)

// defaultMaxExpiration is the lifetime that a projected certificate has at most if the pod names none (KEP-4317).
const defaultMaxExpiration = 24 * time.Hour

// Member is a pod in one role: it has certificates of one signerName, or verifies them.
type Member struct {
	Namespace  string    `json:"namespace"`
	Name       string    `json:"name"`
	UID        types.UID `json:"uid"`
	SignerName string    `json:"signerName"`
	Delivery   Delivery  `json:"delivery"`
	// TrustOnly says that it has the trust bundle and no certificate.
	TrustOnly bool `json:"trustOnly,omitempty"`
	// Listens says that its agent can be told to renew.
	Listens bool `json:"-"`
	// MaxLifetime is how long a certificate is valid at most that its kubelet asks for; zero for other deliveries.
	MaxLifetime time.Duration `json:"-"`
	// Workload that makes such pods anew.
	Workload Workload `json:"-"`
}

// Of returns the pod's roles: none for pods that have nothing to do with Certwright, and for those that have ended or are going.
func Of(pod *corev1.Pod) []Member {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	return Roles(pod)
}

// Roles returns the pod's roles, whether it still runs or not.
func Roles(pod *corev1.Pod) []Member {
	base := Member{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Workload: workloadOf(pod)}
	var members []Member
	add := func(m Member) {
		// The trust bundle that comes with a certificate is not another role.
		if m.SignerName != "" && !slices.ContainsFunc(members, func(o Member) bool {
			return o.SignerName == m.SignerName && (m.TrustOnly || o.Delivery == m.Delivery)
		}) {
			members = append(members, m)
		}
	}
	container, delivery := agentOf(pod)
	if container != nil {
		m := base
		m.Delivery, m.SignerName, m.Listens = delivery, askedBy(container, pod), delivery == Agent && hearsRenew(pod)
		add(m)
	}
	for source := range sourcesOf(pod) {
		if p := source.PodCertificate; p != nil {
			m := base
			m.Delivery, m.SignerName, m.MaxLifetime = Kubelet, p.SignerName, defaultMaxExpiration
			if p.MaxExpirationSeconds != nil {
				m.MaxLifetime = time.Duration(*p.MaxExpirationSeconds) * time.Second
			}
			add(m)
		}
	}
	for _, trusted := range trustedBy(pod) {
		m := base
		m.Delivery, m.SignerName, m.TrustOnly = Kubelet, trusted, true
		if container != nil {
			m.Delivery = delivery
		}
		add(m)
	}
	return members
}

// Has tells whether the pod, in this role, has certificates of the signerName.
func (m Member) Has(signerName string) bool { return m.SignerName == signerName && !m.TrustOnly }

// List returns the members of one namespace, or of all if it is empty, in the order of their names.
func List(ctx context.Context, reader client.Reader, namespace string) ([]Member, error) {
	var pods corev1.PodList
	if err := reader.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		return nil, rights.Right{Verb: "list", Resource: "pods", Namespace: namespace}.Explain("listing pods", err)
	}
	var members []Member
	for i := range pods.Items {
		members = append(members, Of(&pods.Items[i])...)
	}
	slices.SortStableFunc(members, func(a, b Member) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return members, nil
}

// agentOf returns the agent's container and how it delivers; nil if the pod has none.
func agentOf(pod *corev1.Pod) (*corev1.Container, Delivery) {
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.Name != inject.AgentContainer {
			continue
		}
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			return c, Agent
		}
		return c, Init
	}
	return nil, ""
}

// askedBy returns the signerName that an agent asks: what its configuration says, which stays as it is for as long as the pod lives. Where
// that is not to be read, the pod's annotation has to do.
func askedBy(container *corev1.Container, pod *corev1.Pod) string {
	for _, variable := range container.Env {
		var config agent.Config
		if variable.Name == agent.ConfigEnv && json.Unmarshal([]byte(variable.Value), &config) == nil {
			return config.SignerName
		}
	}
	return pod.Annotations[annotation.AutoTLS]
}

// hearsRenew tells whether the pod has a file with the annotation by which agents are told. Pods that an older Certwright made have none.
func hearsRenew(pod *corev1.Pod) bool {
	path := "metadata.annotations['" + v1alpha1.AnnotationRenew + "']"
	names := func(file corev1.DownwardAPIVolumeFile) bool {
		return file.FieldRef != nil && file.FieldRef.FieldPath == path
	}
	for _, v := range pod.Spec.Volumes {
		if v.DownwardAPI != nil && slices.ContainsFunc(v.DownwardAPI.Items, names) {
			return true
		}
	}
	for source := range sourcesOf(pod) {
		if source.DownwardAPI != nil && slices.ContainsFunc(source.DownwardAPI.Items, names) {
			return true
		}
	}
	return false
}

// sourcesOf returns the sources of all projected volumes.
func sourcesOf(pod *corev1.Pod) func(yield func(corev1.VolumeProjection) bool) {
	return func(yield func(corev1.VolumeProjection) bool) {
		for _, v := range pod.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for _, source := range v.Projected.Sources {
				if !yield(source) {
					return
				}
			}
		}
	}
}

// Span writes a duration without zeros behind it, such as 24h.
func Span(d time.Duration) string {
	text := d.Round(time.Second).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}
