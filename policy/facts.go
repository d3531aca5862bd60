// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"net/netip"

	"github.com/certwright/certwright/policy/pattern"
)

// Facts are what the cluster knows about a requester, gathered before anything is decided. Nothing in them comes from the
// certificate request itself.
type Facts struct {
	// TrustDomain is the SPIFFE trust domain of the installation.
	TrustDomain string
	// ClusterDomain is the DNS domain of the cluster.
	ClusterDomain string

	// Namespace of the requester's service account; nil if the requester is none, or its namespace is gone.
	Namespace *Namespace
	// Pod that the requester's token is bound to; nil if it is bound to none, or PodProblem says why it does not count.
	Pod *Pod
	// PodProblem says what is wrong with the pod that the token is bound to, such as that it is gone. Empty if nothing is.
	PodProblem string
	// Services of the namespace whose selectors select the pod.
	Services []Service
}

// Namespace is a namespace as far as policies look at it.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Pod is a live pod that the requester's token is proven to be bound to.
type Pod struct {
	Name      string
	Hostname  string
	Subdomain string
	IPs       []netip.Addr
	// IPsPending is true for a pod that will have addresses of its own, but whose kubelet has not told the API server yet. Its
	// containers may run by then, so what is refused for want of an address may be permitted a moment later.
	IPsPending bool
	// Started is true once a container of the pod ran, and so its volumes were there.
	Started bool

	// Labels and Annotations are chosen by whoever created the pod.
	Labels      map[string]string
	Annotations map[string]string
	// Node that the pod runs on.
	Node string
	// Owner is the controller of the pod, such as its StatefulSet; nil if it has none.
	Owner *Owner
}

// Owner is the object that controls a pod.
type Owner struct {
	APIVersion string
	Kind       string
	Name       string
}

// Service is a Service that selects the requester's pod.
type Service struct {
	Name string
	// Headless is true for a Service without a cluster IP, whose pods have DNS names of their own.
	Headless bool
}

// maxServices bounds how many Services may select a pod for {service} to have values. Whoever may create Services could
// otherwise make every decision about her requests as slow as she likes.
const maxServices = 100

// Values returns what the placeholders of patterns stand for, for a requester with this service account: once for each Service that
// selects the pod. Without one, or with more than maxServices, there is a single set, without {service}.
func (facts Facts) Values(serviceAccount string) []pattern.Values {
	base := pattern.Values{
		pattern.TrustDomain:   facts.TrustDomain,
		pattern.ClusterDomain: facts.ClusterDomain,
	}
	if facts.Namespace != nil {
		base[pattern.Namespace] = facts.Namespace.Name
		base[pattern.ServiceAccount] = serviceAccount
	}
	if facts.Pod == nil {
		return []pattern.Values{base.Sane()}
	}
	base[pattern.Pod] = facts.Pod.Name
	if len(facts.Services) == 0 || len(facts.Services) > maxServices {
		return []pattern.Values{base.Sane()}
	}
	sets := make([]pattern.Values, 0, len(facts.Services))
	for _, service := range facts.Services {
		set := maps.Clone(base)
		set[pattern.Service] = service.Name
		if service.Headless && service.Name == facts.Pod.Subdomain {
			set[pattern.Hostname] = facts.Pod.Hostname
		}
		sets = append(sets, set.Sane())
	}
	return sets
}
