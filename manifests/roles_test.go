// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// TestNoBroadRules looks at every role, bound or not, installed or an example.
func TestNoBroadRules(t *testing.T) {
	for _, path := range []string{installFile, "examples/signer-domain.yaml", "examples/policies/people/roles.yaml"} {
		objects := decode(t, path)
		rules := map[string][]rbacv1.PolicyRule{}
		for name, role := range all[rbacv1.Role](objects) {
			rules[name] = role.Rules
		}
		for name, role := range all[rbacv1.ClusterRole](objects) {
			rules[name] = role.Rules
		}
		for name, rules := range rules {
			for _, rule := range rules {
				if slices.Contains(slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources), "*") {
					t.Errorf("%s: %s has a wildcard: %v", path, name, rule)
				}
				if slices.Contains(rule.Resources, "signers") && slices.Contains(rule.APIGroups, "certificates.k8s.io") {
					for _, signer := range rule.ResourceNames {
						if strings.Contains(signer, "kubernetes.io") && !slices.Equal(rule.Verbs, []string{"request"}) {
							t.Errorf("%s: %s may %v on a signer of Kubernetes", path, name, rule.Verbs)
						}
					}
					if len(rule.ResourceNames) == 0 {
						t.Errorf("%s: %s names no signer, which is all of them", path, name)
					}
				}
				for _, dangerous := range []string{"escalate", "bind", "impersonate"} {
					if slices.Contains(rule.Verbs, dangerous) {
						t.Errorf("%s: %s may %s", path, name, dangerous)
					}
				}
			}
		}
	}
}

// TestRolesForPeople: whoever views the cluster sees our kinds. Nobody may write them but cluster administrators.
func TestRolesForPeople(t *testing.T) {
	roles := all[rbacv1.ClusterRole](decode(t, installFile))
	viewer := roles["certwright-viewer"]
	if viewer == nil || viewer.Labels["rbac.authorization.k8s.io/aggregate-to-view"] != "true" {
		t.Fatalf("certwright-viewer is not part of view: %+v", viewer)
	}
	for _, g := range expand("*", viewer.Rules[0]) {
		if len(viewer.Rules) > 1 || g.group != "certwright.dev" || !slices.Contains([]string{"get", "list", "watch"}, g.verb) {
			t.Errorf("certwright-viewer: %s", g)
		}
	}
	for name, role := range roles {
		for _, rule := range role.Rules {
			for _, g := range expand("*", rule) {
				reads, status := slices.Contains([]string{"get", "list", "watch"}, g.verb), strings.HasSuffix(g.resource, "/status")
				if g.group == "certwright.dev" && !reads && !status {
					t.Errorf("%s: %s", name, g)
				}
			}
		}
	}
	if approver := roles["certwright-person-approver"]; approver == nil || approver.AggregationRule != nil {
		t.Errorf("certwright-person-approver: %+v", approver)
	}
}

// TestEverySubjectIsKnown keeps bindings to others than those TestGrants looks at out of the manifest.
func TestEverySubjectIsKnown(t *testing.T) {
	known := []rbacv1.Subject{
		serviceAccount("approver"), serviceAccount("signer"), serviceAccount("webhook"),
		{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "system:serviceaccounts"},
		{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "system:serviceaccounts:kube-system"},
	}
	objects := decode(t, installFile)
	var subjects []rbacv1.Subject
	for _, binding := range all[rbacv1.RoleBinding](objects) {
		subjects = append(subjects, binding.Subjects...)
	}
	for _, binding := range all[rbacv1.ClusterRoleBinding](objects) {
		subjects = append(subjects, binding.Subjects...)
	}
	for _, subject := range subjects {
		if !slices.Contains(known, subject) {
			t.Errorf("unknown subject %+v", subject)
		}
	}
}

// TestExampleDomainAggregates: the example's roles reach the approver and the signer through the labels that the installed
// roles select.
func TestExampleDomainAggregates(t *testing.T) {
	objects := slices.Concat(decode(t, installFile), decode(t, "examples/signer-domain.yaml"))
	for component, verbs := range map[string][]string{"approver": {"approve"}, "signer": {"sign", "attest"}} {
		got := grants(t, objects, serviceAccount(component))
		for _, verb := range verbs {
			if want := (grant{"*", "certificates.k8s.io", "signers", "example.com/*", verb}); !slices.Contains(got, want) {
				t.Errorf("%s: missing %s", component, want)
			}
		}
	}
}
