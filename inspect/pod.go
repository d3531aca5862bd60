// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

// maxRequests is how many of a pod's requests are shown: the newest.
const maxRequests = 3

// Pod tells what Certwright did to a pod.
type Pod struct {
	Namespace      string `json:"namespace"`
	Name           string `json:"name"`
	UID            string `json:"uid"`
	ServiceAccount string `json:"serviceAccount"`
	// Asked are the annotations by which the pod asks for a certificate.
	Asked map[string]string `json:"asked,omitempty"`
	// Delivery is what brings it the certificate or trust bundle: agent, init or kubelet; empty if nothing does.
	Delivery fleet.Delivery `json:"delivery,omitempty"`
	// Agent is the container that keeps the key pair; nil if the pod has none.
	Agent *Agent `json:"agent,omitempty"`
	// Containers that see the key pair, and where, as name:directory.
	Containers []string `json:"containers,omitempty"`
}

// Agent is the container that keeps a pod's key pair.
type Agent struct {
	Image string `json:"image"`
	// Renews is true for a sidecar, and false for an init container that ends.
	Renews   bool   `json:"renews"`
	Ready    bool   `json:"ready"`
	Restarts int32  `json:"restarts,omitempty"`
	State    string `json:"state"`
}

// Pod reports on what a pod asks for, what brings it, and its newest requests. The pod's files are not read.
func (c Cluster) Pod(ctx context.Context, namespace, name string) (Report, error) {
	var pod corev1.Pod
	if err := c.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
		return Report{}, fmt.Errorf("reading the pod: %w", err)
	}
	r := Report{Source: fmt.Sprintf("pod %s/%s", namespace, name), Pod: describePod(&pod)}
	signerName := r.Pod.Asked[annotation.AutoTLS]
	asks := signerName != "" || r.Pod.Asked[annotation.Trust] != ""
	brought := slices.ContainsFunc(fleet.Roles(&pod), func(m fleet.Member) bool { return signerName == "" || m.Has(signerName) })
	switch {
	case !asks && !brought:
		r.find(Warning, "the pod does not ask for a certificate: annotate it with "+annotation.AutoTLS)
	case !brought:
		r.find(Error, "the pod asks for a certificate and has no agent, nor a volume that its kubelet fills: it was made before Certwright's webhook, or past it; make it anew")
	case r.Pod.Agent != nil && !r.Pod.Agent.Ready:
		r.find(Warning, "the agent has not brought all yet: "+r.Pod.Agent.State)
	}
	var err error
	r.Requests, err = c.requestsOf(ctx, &pod)
	return r, err
}

// requestsOf reports on the newest requests of this very pod: those that were made with a token bound to it, and those of its kubelet.
func (c Cluster) requestsOf(ctx context.Context, pod *corev1.Pod) ([]Report, error) {
	var list certificatesv1.CertificateSigningRequestList
	if err := c.Reader.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing certificatesigningrequests: %w", err)
	}
	account := serviceaccount.MakeUsername(pod.Namespace, accountOf(pod))
	var reports []Report
	for i := range list.Items {
		object := &list.Items[i]
		requester := csr.Requester{Username: object.Spec.Username, Extra: object.Spec.Extra}
		identity, bound := requester.Pod()
		if !bound || identity.UID != pod.UID || object.Spec.Username != account {
			continue
		}
		report, err := c.request(ctx, object)
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	ofKubelet, err := c.kubeletRequests(ctx, pod)
	if err != nil {
		return nil, err
	}
	reports = append(reports, ofKubelet...)
	slices.SortFunc(reports, func(a, b Report) int {
		return ptr.Deref(b.Request.Created, time.Time{}).Compare(ptr.Deref(a.Request.Created, time.Time{}))
	})
	return reports[:min(len(reports), maxRequests)], nil
}

func accountOf(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName == "" {
		return "default"
	}
	return pod.Spec.ServiceAccountName
}

func describePod(pod *corev1.Pod) *Pod {
	p := &Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), ServiceAccount: accountOf(pod)}
	for key, value := range pod.Annotations {
		if strings.HasPrefix(key, annotation.Prefix) {
			if p.Asked == nil {
				p.Asked = map[string]string{}
			}
			p.Asked[key] = value
		}
	}
	for _, container := range pod.Spec.InitContainers {
		if container.Name == inject.AgentContainer {
			p.Agent = describeAgent(pod, container)
		}
	}
	if roles := fleet.Roles(pod); len(roles) > 0 {
		p.Delivery = roles[0].Delivery
	}
	for _, container := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
		for _, mount := range container.VolumeMounts {
			if mount.Name == inject.TLSVolume && container.Name != inject.AgentContainer {
				p.Containers = append(p.Containers, container.Name+":"+mount.MountPath)
			}
		}
	}
	return p
}

func describeAgent(pod *corev1.Pod, container corev1.Container) *Agent {
	agent := &Agent{
		Image:  container.Image,
		Renews: container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways,
		State:  "not started",
	}
	for _, status := range pod.Status.InitContainerStatuses {
		if status.Name != container.Name {
			continue
		}
		agent.Restarts = status.RestartCount
		agent.State = stateOf(status.State)
		agent.Ready = status.Ready && (status.Started == nil || *status.Started || !agent.Renews)
	}
	return agent
}

func stateOf(state corev1.ContainerState) string {
	switch {
	case state.Running != nil:
		return "running"
	case state.Terminated != nil && state.Terminated.ExitCode == 0:
		return "completed"
	case state.Terminated != nil:
		return strings.TrimSpace(fmt.Sprintf("ended with exit code %d. %s", state.Terminated.ExitCode, state.Terminated.Message))
	case state.Waiting != nil:
		return strings.TrimSpace("waiting: " + state.Waiting.Reason + " " + state.Waiting.Message)
	}
	return "not started"
}
