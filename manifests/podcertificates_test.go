// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/certwright/certwright/signer/podcert"
)

// TestOnlyKubeletsAskForPods: whoever else may create PodCertificateRequests gets nobody's identity from a Signer, and is left alone with
// the signers of others.
func TestOnlyKubeletsAskForPods(t *testing.T) {
	const ours, others, kubernetes = "example.com/internal", "other.example/signer", "kubernetes.io/kube-apiserver-client-pod"
	account := "system:serviceaccount:" + namespace + ":" + serviceAccount("signer").Name
	signs := map[string]bool{"example.com/*": true, "certwright.dev/one": true}
	nodes, accounts := []any{"system:nodes", "system:authenticated"}, []any{"system:serviceaccounts", "system:authenticated"}
	for name, c := range map[string]struct {
		user       string
		groups     []any
		signerName string
		refused    bool
	}{
		"the kubelet of the node":                      {"system:node:node-1", nodes, ours, false},
		"the kubelet of another node":                  {"system:node:node-2", nodes, ours, true},
		"a node by name only":                          {"system:node:node-1", []any{"system:authenticated"}, ours, true},
		"a node by group only":                         {"mallory", nodes, ours, true},
		"a service account":                            {"system:serviceaccount:shop:web", accounts, ours, true},
		"a person":                                     {"alice", []any{"system:authenticated"}, ours, true},
		"an administrator":                             {"root", []any{"system:masters", "system:authenticated"}, ours, true},
		"the signer itself":                            {account, accounts, ours, true},
		"nobody in particular":                         {"", nil, ours, true},
		"a signerName that is granted whole":           {"alice", nil, "certwright.dev/one", true},
		"another one of that domain":                   {"alice", nil, "certwright.dev/two", false},
		"a signer of others":                           {"alice", nil, others, false},
		"a domain that only ends like ours":            {"alice", nil, "not-example.com/internal", false},
		"a signer of Kubernetes":                       {"alice", nil, kubernetes, false},
		"the kubelet of the node, of a foreign signer": {"system:node:node-1", nodes, others, false},
	} {
		t.Run(name, func(t *testing.T) {
			shown := map[string]any{
				"object":  map[string]any{"spec": map[string]any{"signerName": c.signerName, "nodeName": "node-1", "podName": "web-0"}},
				"request": map[string]any{"operation": "CREATE", "userInfo": map[string]any{"username": c.user, "groups": c.groups}},
				"authorizer": func(a authorizer.Attributes) bool {
					return a.GetUser().GetName() == account && a.GetVerb() == "sign" && a.GetResource() == "signers" && a.GetAPIGroup() == "certificates.k8s.io" && signs[a.GetName()]
				},
			}
			if got := refuses(t, podcert.AdmissionPolicy, shown); got != c.refused {
				t.Errorf("refused %t, want %t", got, c.refused)
			}
		})
	}
}

// TestPodCertificateRequestsAreLookedAt: in whatever version they come, and in every namespace.
func TestPodCertificateRequestsAreLookedAt(t *testing.T) {
	constraints := admissionPolicies(t)[podcert.AdmissionPolicy].Spec.MatchConstraints
	if constraints.NamespaceSelector != nil || constraints.ObjectSelector != nil || len(constraints.ExcludeResourceRules) > 0 || len(constraints.ResourceRules) != 1 {
		t.Fatalf("constraints %+v, want one rule for all namespaces and objects", constraints)
	}
	rule := constraints.ResourceRules[0]
	if len(rule.APIVersions) != 1 || rule.APIVersions[0] != "*" || len(rule.Operations) != 1 || rule.Operations[0] != admissionregistrationv1.Create ||
		len(rule.Resources) != 1 || rule.Resources[0] != "podcertificaterequests" || len(rule.ResourceNames) > 0 {
		t.Errorf("rule %+v, want the creation of podcertificaterequests in every version", rule)
	}
}
