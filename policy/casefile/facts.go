// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

// DefaultDomain is the trust domain and the cluster domain of an installation that sets none.
const DefaultDomain = "cluster.local"

// Facts are what the cluster would know about a requester, in the form in which a file says it. Only what is written down
// is known: a requester without pod has no Services either.
type Facts struct {
	// TrustDomain is the SPIFFE trust domain. Default: cluster.local.
	TrustDomain string `json:"trustDomain,omitempty"`
	// ClusterDomain is the DNS domain of the cluster. Default: cluster.local.
	ClusterDomain string `json:"clusterDomain,omitempty"`
	// Namespace of the requester's service account. Where a file leaves it out, it is taken from the requester, without
	// labels.
	Namespace *Namespace `json:"namespace,omitempty"`
	// Pod that the requester's token is bound to.
	Pod *Pod `json:"pod,omitempty"`
	// PodProblem says why the pod that the token is bound to does not count, such as "pod shop/web-0 is gone".
	PodProblem string `json:"podProblem,omitempty"`
	// Services of the namespace that select the pod.
	Services []Service `json:"services,omitempty"`
}

// Namespace is a namespace as a file says it.
type Namespace struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Pod is a pod as a file says it.
type Pod struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Node        string            `json:"node,omitempty"`
	Owner       *Owner            `json:"owner,omitempty"`
	Hostname    string            `json:"hostname,omitempty"`
	Subdomain   string            `json:"subdomain,omitempty"`
	IPs         []string          `json:"ips,omitempty"`
}

// Owner is the controller of a pod as a file says it.
type Owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

// Service is a Service as a file says it.
type Service struct {
	Name     string `json:"name"`
	Headless bool   `json:"headless,omitempty"`
}

// For returns the facts as they are decided on, for the given requester. A nil receiver knows nothing but the defaults.
func (f *Facts) For(requester csr.Requester) (policy.Facts, error) {
	if f == nil {
		f = &Facts{}
	}
	facts := policy.Facts{TrustDomain: f.TrustDomain, ClusterDomain: f.ClusterDomain, PodProblem: f.PodProblem}
	for _, domain := range []struct {
		path  string
		value *string
	}{{"trustDomain", &facts.TrustDomain}, {"clusterDomain", &facts.ClusterDomain}} {
		*domain.value = cmp.Or(*domain.value, DefaultDomain)
		if err := csr.CheckDNSName(*domain.value); err != nil {
			return policy.Facts{}, fmt.Errorf("%s %q: %w", domain.path, *domain.value, err)
		}
	}
	namespace, _, isServiceAccount := requester.ServiceAccount()
	switch {
	case f.Namespace == nil && isServiceAccount:
		facts.Namespace = &policy.Namespace{Name: namespace}
	case f.Namespace != nil && (!isServiceAccount || f.Namespace.Name != namespace):
		return policy.Facts{}, fmt.Errorf("namespace.name %q: must be that of the requester %q", f.Namespace.Name, requester.Username)
	case f.Namespace != nil:
		facts.Namespace = &policy.Namespace{Name: f.Namespace.Name, Labels: f.Namespace.Labels}
	}
	if err := f.pod(&facts, isServiceAccount); err != nil {
		return policy.Facts{}, err
	}
	return facts, nil
}

// pod fills in the pod and its Services, as the live cluster would: none where the token is bound to no pod that counts.
func (f *Facts) pod(facts *policy.Facts, isServiceAccount bool) error {
	switch {
	case f.Pod == nil && len(f.Services) > 0:
		return fmt.Errorf("services: set pod as well: Services are known by the pod that they select")
	case f.Pod == nil:
		return nil
	case f.PodProblem != "":
		return fmt.Errorf("pod: set pod or podProblem, not both: a pod with a problem counts for nothing")
	case !isServiceAccount:
		return fmt.Errorf("pod: the requester must be a service account to have one, such as system:serviceaccount:shop:web")
	case f.Pod.Name == "":
		return fmt.Errorf("pod.name: must be set")
	}
	facts.Pod = &policy.Pod{
		Name: f.Pod.Name, Hostname: f.Pod.Hostname, Subdomain: f.Pod.Subdomain,
		Labels: f.Pod.Labels, Annotations: f.Pod.Annotations, Node: f.Pod.Node,
	}
	if o := f.Pod.Owner; o != nil {
		facts.Pod.Owner = &policy.Owner{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name}
	}
	for i, text := range f.Pod.IPs {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return fmt.Errorf("pod.ips[%d] %q: must be an IP address", i, text)
		}
		facts.Pod.IPs = append(facts.Pod.IPs, addr.Unmap())
	}
	for i, s := range f.Services {
		if s.Name == "" {
			return fmt.Errorf("services[%d].name: must be set", i)
		}
		facts.Services = append(facts.Services, policy.Service{Name: s.Name, Headless: s.Headless})
	}
	return nil
}
