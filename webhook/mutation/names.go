// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook/annotation"
)

// maxServices may select a pod that leaves its DNS names to them. As policy has it:
// its placeholder {service} stands for nothing if there are more.
const maxServices = 100

// Facts are what Mutate needs to know besides the pod.
type Facts struct {
	// Namespace of the pod, from the admission request: the pod itself need not
	// name it.
	Namespace string
	// Services of that namespace, at least those that select the pod, or more than
	// maxServices of them.
	Services []corev1.Service
	// Signer that has the signerName, nil for none. It matters only where kubelets
	// may deliver.
	Signer *v1alpha1.Signer
}

// defaultDNSNames are the names of the Services that select the pod, and the
// pod's own name below the headless Service that is its subdomain (a StatefulSet
// pod has both fields when it is created). Sorted, each with and without the
// cluster domain. The error is an annotation.Refusal.
func (m Mutator) defaultDNSNames(pod *corev1.Pod, in Facts) ([]string, error) {
	names, services := []string{}, 0
	add := func(name string) {
		name += "." + in.Namespace + ".svc"
		names = append(names, name, name+"."+m.ClusterDomain)
	}
	for i := range in.Services {
		service := &in.Services[i]
		if service.Namespace != in.Namespace || !selects(service, pod) {
			continue
		}
		if services++; services > maxServices {
			return nil, annotation.Refusal{fmt.Sprintf("more than %d Services of namespace %s select it: name those to ask for in annotation %s", maxServices, in.Namespace, annotation.DNSNames)}
		}
		add(service.Name)
		if service.Spec.ClusterIP == corev1.ClusterIPNone && pod.Spec.Subdomain == service.Name && pod.Spec.Hostname != "" {
			add(pod.Spec.Hostname + "." + service.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// selects tells whether the Service sends traffic to the pod because of its
// selector. An empty selector selects nothing, and an ExternalName Service is an
// alias for something outside.
func selects(service *corev1.Service, pod *corev1.Pod) bool {
	if len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	for key, want := range service.Spec.Selector {
		if have, ok := pod.Labels[key]; !ok || have != want {
			return false
		}
	}
	return true
}

// defaultURI is the SPIFFE ID of the pod's service account.
func (m Mutator) defaultURI(pod *corev1.Pod, in Facts) string {
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	return "spiffe://" + m.TrustDomain + "/ns/" + in.Namespace + "/sa/" + account
}
