// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package facts gathers what the live cluster knows about the requester of a certificate: its namespace, the pod that its
// token is bound to, and the Services that select this pod. An error is always trouble that passes; what is proven to be
// wrong, such as a pod that is gone, is a fact.
package facts

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

// Gatherer gathers facts for one installation.
type Gatherer struct {
	// TrustDomain is the SPIFFE trust domain, such as "cluster.local".
	TrustDomain string
	// ClusterDomain is the DNS domain of the cluster, such as "cluster.local".
	ClusterDomain string
	// Pods reads pods. It must not be a cache: a pod that is gone, or was replaced under its name, must be seen as such.
	Pods client.Reader
}

// Gather returns the facts about the requester, reading namespaces and Services through the given reader.
func (g Gatherer) Gather(ctx context.Context, reader client.Reader, requester csr.Requester) (policy.Facts, error) {
	facts := policy.Facts{TrustDomain: g.TrustDomain, ClusterDomain: g.ClusterDomain}
	namespace, _, ok := requester.ServiceAccount()
	if !ok {
		return facts, nil
	}
	identity, bound := requester.Pod()
	var ns corev1.Namespace
	switch err := reader.Get(ctx, client.ObjectKey{Name: namespace}, &ns); {
	case gone(err) && bound:
		facts.PodProblem = fmt.Sprintf("namespace %s is gone, and pod %s with it", namespace, identity.Name)
		return facts, nil
	case gone(err):
		return facts, nil
	case err != nil:
		return policy.Facts{}, fmt.Errorf("reading namespace %s: %w", namespace, err)
	}
	facts.Namespace = &policy.Namespace{Name: ns.Name, Labels: ns.Labels}

	if !bound {
		return facts, nil
	}
	var pod corev1.Pod
	switch err := g.Pods.Get(ctx, client.ObjectKey{Namespace: namespace, Name: identity.Name}, &pod); {
	case gone(err):
		facts.PodProblem = fmt.Sprintf("pod %s/%s is gone", namespace, identity.Name)
		return facts, nil
	case err != nil:
		return policy.Facts{}, fmt.Errorf("reading pod %s/%s: %w", namespace, identity.Name, err)
	}
	if facts.PodProblem = problem(&pod, identity, requester); facts.PodProblem != "" {
		return facts, nil
	}
	facts.Pod = podFacts(&pod)
	services, err := g.selecting(ctx, reader, &pod)
	if err != nil {
		return policy.Facts{}, err
	}
	facts.Services = services
	return facts, nil
}

// gone reports whether the API server says that there is no such object. A 404 by something in between, which knows nothing
// about objects, is trouble.
func gone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.IsUnexpectedServerError(err)
}

// problem says why a live pod is not the one that the requester's token is bound to, or no longer may use it; empty if it is.
func problem(pod *corev1.Pod, identity csr.PodIdentity, requester csr.Requester) string {
	_, serviceAccount, _ := requester.ServiceAccount()
	name := pod.Namespace + "/" + pod.Name
	switch {
	case pod.UID != identity.UID:
		return fmt.Sprintf("pod %s was replaced: the token is bound to UID %s, the pod is now %s", name, identity.UID, pod.UID)
	case pod.Spec.ServiceAccountName != serviceAccount:
		return fmt.Sprintf("pod %s runs as service account %s, not as %s", name, pod.Spec.ServiceAccountName, serviceAccount)
	case identity.NodeName != "" && pod.Spec.NodeName != identity.NodeName:
		return fmt.Sprintf("pod %s runs on node %s, but the token was made for node %s", name, pod.Spec.NodeName, identity.NodeName)
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return fmt.Sprintf("pod %s has finished", name)
	}
	return ""
}

// podFacts leaves out the addresses of a pod in its node's network: they are not its own.
func podFacts(pod *corev1.Pod) *policy.Pod {
	facts := &policy.Pod{
		Name:        pod.Name,
		Hostname:    pod.Spec.Hostname,
		Subdomain:   pod.Spec.Subdomain,
		Labels:      pod.Labels,
		Annotations: pod.Annotations,
		Node:        pod.Spec.NodeName,
		Started:     started(pod),
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		facts.Owner = &policy.Owner{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name}
	}
	if pod.Spec.HostNetwork {
		return facts
	}
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			facts.IPs = append(facts.IPs, addr.Unmap())
		}
	}
	facts.IPsPending = len(facts.IPs) == 0
	return facts
}

// started reports whether a container of the pod runs, or has run.
func started(pod *corev1.Pod) bool {
	ran := func(c corev1.ContainerStatus) bool {
		return c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil || c.RestartCount > 0
	}
	return slices.ContainsFunc(pod.Status.InitContainerStatuses, ran) || slices.ContainsFunc(pod.Status.ContainerStatuses, ran)
}

// MaxSelector is how many labels the selector of a Service may name to select a pod. Whoever may create Services could
// otherwise have everybody who looks at them keep and compare megabytes of labels for each. A cache may cut off what is beyond.
const MaxSelector = 64

// isLive reports whether the reader is the one of pods, and thus no cache.
func (g Gatherer) isLive(reader client.Reader) bool {
	return reflect.ValueOf(reader).Comparable() && reader == g.Pods
}

// servicesPage is how many Services are read from the API server at a time, as each may take more than a megabyte.
const servicesPage = 10

// selecting returns the Services of the pod's namespace whose selectors select it, in order of their names. A Service
// without a selector selects nothing, and neither does one with more than MaxSelector labels, or an ExternalName, which is
// only an alias in DNS.
func (g Gatherer) selecting(ctx context.Context, reader client.Reader, pod *corev1.Pod) ([]policy.Service, error) {
	options := []client.ListOption{client.InNamespace(pod.Namespace), client.UnsafeDisableDeepCopy}
	live := g.isLive(reader)
	if live {
		options = append(options, client.Limit(servicesPage))
	}
	var services []policy.Service
	for next := ""; ; {
		var page corev1.ServiceList
		if err := reader.List(ctx, &page, append(options, client.Continue(next))...); err != nil {
			return nil, fmt.Errorf("listing the Services of namespace %s: %w", pod.Namespace, err)
		}
		for i := range page.Items {
			s := &page.Items[i].Spec
			if len(s.Selector) == 0 || len(s.Selector) > MaxSelector || s.Type == corev1.ServiceTypeExternalName || !labels.SelectorFromSet(s.Selector).Matches(labels.Set(pod.Labels)) {
				continue
			}
			services = append(services, policy.Service{Name: page.Items[i].Name, Headless: s.ClusterIP == corev1.ClusterIPNone})
		}
		if next = page.Continue; !live || next == "" { // a cache gives all at once, whatever it says
			break
		}
	}
	slices.SortFunc(services, func(a, b policy.Service) int { return strings.Compare(a.Name, b.Name) })
	return services, nil
}
