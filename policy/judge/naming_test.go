// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"errors"
	"slices"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

// services names a request by the Services that select its pod.
func services(req csr.Request, facts policy.Facts) (csr.Request, error) {
	req.DNSNames = nil
	for _, s := range facts.Services {
		req.DNSNames = append(req.DNSNames, s.Name+".shop.svc")
	}
	return req, nil
}

// A request that is named by facts is decided on with the very facts that it was named by: a cache that knows another Service than the API
// server never makes a name that is then denied.
func TestDecideNaming(t *testing.T) {
	service := func(name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}}
	}
	byServices := func(names ...string) *v1alpha1.CertificatePolicy {
		return &v1alpha1.CertificatePolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "services", UID: "policy-uid", Generation: 1},
			Spec: v1alpha1.CertificatePolicySpec{
				SignerNames: []string{signerName},
				Requesters:  v1alpha1.Requesters{NamespaceSelector: &metav1.LabelSelector{}, ServiceAccounts: []string{"*"}},
				Allow: v1alpha1.Allow{
					DNSNames: names, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth}, Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
				},
			},
		}
	}
	req := csr.Request{
		SignerName: signerName, ForPod: true, Key: csr.Key{Algorithm: csr.AlgorithmECDSA, Size: 256}, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
		Requester: csr.Requester{Username: "system:serviceaccount:shop:web", Extra: map[string]certificatesv1.ExtraValue{
			"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"pod-uid"},
		}},
	}
	for name, c := range map[string]struct {
		cached, live *corev1.Service
		policy       *v1alpha1.CertificatePolicy
		verdict      policy.Verdict
		names        []string
	}{
		"by the cache, which permits":                {service("old"), service("new"), byServices("{service}.{namespace}.svc"), policy.Permit, []string{"old.shop.svc"}},
		"by the API server where the cache does not": {service("old"), service("new"), byServices("new.shop.svc"), policy.Permit, []string{"new.shop.svc"}},
		"denied by what the API server says":         {service("old"), service("new"), byServices("other.shop.svc"), policy.Deny, []string{"new.shop.svc"}},
	} {
		t.Run(name, func(t *testing.T) {
			cached, live := newStore(t, cluster(c.cached, c.policy.DeepCopy())...), newStore(t, cluster(c.live, c.policy.DeepCopy())...)
			named, d, err := New(cached, live, "cluster.local", "cluster.local").DecideNaming(t.Context(), req, services)
			if err != nil || d.Verdict != c.verdict || !slices.Equal(named.DNSNames, c.names) {
				t.Errorf("named %q, %s, error %v, want %q and %s", named.DNSNames, d.Verdict, err, c.names, c.verdict)
			}
		})
	}
	t.Run("what cannot be named is not decided", func(t *testing.T) {
		s := newStore(t, cluster(byServices("*.svc"))...)
		trouble := errors.New("no name yet")
		_, d, err := New(s, s, "cluster.local", "cluster.local").DecideNaming(t.Context(), req, func(r csr.Request, _ policy.Facts) (csr.Request, error) { return r, trouble })
		if !errors.Is(err, trouble) || d.Verdict != policy.NoOpinion {
			t.Errorf("%s, error %v", d.Verdict, err)
		}
	})
}
