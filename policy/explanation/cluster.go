// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package explanation

import (
	"cmp"
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/facts"
)

// Installation is Certwright in a cluster, as far as whoever reads may see it.
type Installation struct {
	Reader client.Reader
	// Namespace that Certwright runs in.
	Namespace string
	// TrustDomain and ClusterDomain are those of the installation. Where they are empty they are read from its ConfigMap.
	TrustDomain, ClusterDomain string
}

// configMap is what manifests/base/config.yaml installs, and defaultDomain what stands in there.
const (
	configMap     = "certwright"
	defaultDomain = "cluster.local"
)

// Explain explains what the policies of the cluster decide about a request.
func (in *Installation) Explain(ctx context.Context, object *certificatesv1.CertificateSigningRequest) (*Explanation, error) {
	policies, notes, err := in.Policies(ctx)
	if err != nil {
		return nil, err
	}
	e, err := New(object, in.Facts(ctx, &notes), policies)
	if err != nil {
		return nil, err
	}
	e.Notes = append(e.Notes, notes...)
	return e, nil
}

// Policies returns the policies of the cluster, and notes about those that are not in force as they stand.
func (in *Installation) Policies(ctx context.Context) (policies []*policy.Policy, notes []string, err error) {
	var list v1alpha1.CertificatePolicyList
	if err := in.Reader.List(ctx, &list); err != nil {
		if meta.IsNoMatchError(err) {
			return nil, nil, fmt.Errorf("the cluster knows no CertificatePolicies: install Certwright, or give --policies: %w", err)
		}
		return nil, nil, fmt.Errorf("listing certificate policies: %w", err)
	}
	for i := range list.Items {
		p, err := policy.Compile(&list.Items[i])
		if err != nil {
			notes = append(notes, fmt.Sprintf("policy %s is not looked at, as it is wrong; its last good version may still decide, and no request is refused for want of it: %v", list.Items[i].Name, err))
			continue
		}
		policies = append(policies, p)
	}
	return policies, notes, nil
}

// Facts returns a function that gathers the facts about a request from the cluster. It adds to notes what it had to assume.
func (in *Installation) Facts(ctx context.Context, notes *[]string) func(csr.Request) (policy.Facts, error) {
	return func(req csr.Request) (policy.Facts, error) {
		trustDomain, clusterDomain := in.domains(ctx, notes)
		gatherer := facts.Gatherer{TrustDomain: trustDomain, ClusterDomain: clusterDomain, Pods: in.Reader}
		return gatherer.Gather(ctx, in.Reader, req.Requester)
	}
}

// domains returns the trust domain and the cluster domain.
func (in *Installation) domains(ctx context.Context, notes *[]string) (trustDomain, clusterDomain string) {
	trustDomain, clusterDomain = in.TrustDomain, in.ClusterDomain
	if trustDomain != "" && clusterDomain != "" {
		return trustDomain, clusterDomain
	}
	var config corev1.ConfigMap
	if err := in.Reader.Get(ctx, client.ObjectKey{Namespace: in.Namespace, Name: configMap}, &config); err != nil {
		*notes = append(*notes, fmt.Sprintf("the trust domain and the cluster domain are assumed to be %s (--trust-domain and --cluster-domain say otherwise): %v", defaultDomain, err))
	}
	return cmp.Or(trustDomain, config.Data["trustDomain"], defaultDomain), cmp.Or(clusterDomain, config.Data["clusterDomain"], defaultDomain)
}
