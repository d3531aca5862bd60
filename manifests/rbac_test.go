// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// grant is one verb on one resource: everywhere if scope is "*", else in that namespace; on all objects if name is empty.
type grant struct{ scope, group, resource, name, verb string }

func (g grant) String() string {
	resource := g.resource
	if g.group != "" {
		resource += "." + g.group
	}
	if g.name != "" {
		resource += "=" + g.name
	}
	return fmt.Sprintf("%s %s %s", g.scope, resource, g.verb)
}

// rulesOf returns the rules of a ClusterRole as kube-controller-manager's aggregation would fill them in.
func rulesOf(t *testing.T, role *rbacv1.ClusterRole, roles map[string]*rbacv1.ClusterRole) []rbacv1.PolicyRule {
	t.Helper()
	if role.AggregationRule == nil {
		return role.Rules
	}
	if len(role.Rules) > 0 {
		t.Errorf("%s: rules of an aggregated ClusterRole belong to kube-controller-manager: applying them would undo what it wrote", role.Name)
	}
	var rules []rbacv1.PolicyRule
	for _, s := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range roles {
			if other.Name != role.Name && selector.Matches(labels.Set(other.Labels)) {
				rules = append(rules, other.Rules...)
			}
		}
	}
	return rules
}

// grants returns all that the bindings give to a service account (certwright-system/name) or to a group, sorted.
func grants(t *testing.T, objects []runtime.Object, subject rbacv1.Subject) []grant {
	t.Helper()
	roles, clusterRoles := all[rbacv1.Role](objects), all[rbacv1.ClusterRole](objects)
	var found []grant
	collect := func(scope string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		if !slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
			return s.Kind == subject.Kind && s.Name == subject.Name && s.Namespace == subject.Namespace
		}) {
			return
		}
		var rules []rbacv1.PolicyRule
		if role, ok := roles[scope+"/"+ref.Name]; ok && ref.Kind == "Role" {
			rules = role.Rules
		} else if role, ok := clusterRoles[ref.Name]; ok && ref.Kind == "ClusterRole" {
			rules = rulesOf(t, role, clusterRoles)
		} else {
			t.Errorf("a binding in %s refers to %s %s, which does not exist", scope, ref.Kind, ref.Name)
		}
		for _, rule := range rules {
			found = append(found, expand(scope, rule)...)
		}
	}
	for _, binding := range all[rbacv1.RoleBinding](objects) {
		collect(binding.Namespace, binding.RoleRef, binding.Subjects)
	}
	for _, binding := range all[rbacv1.ClusterRoleBinding](objects) {
		collect("*", binding.RoleRef, binding.Subjects)
	}
	slices.SortFunc(found, func(a, b grant) int { return strings.Compare(a.String(), b.String()) })
	return found
}

func expand(scope string, rule rbacv1.PolicyRule) []grant {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	var found []grant
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, name := range names {
				for _, verb := range rule.Verbs {
					found = append(found, grant{scope, group, resource, name, verb})
				}
			}
		}
	}
	return found
}

func serviceAccount(component string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "certwright-" + component}
}

// TestGrants holds each component to the design's table of components: these grants, no others.
func TestGrants(t *testing.T) {
	events := []string{
		"* events.events.k8s.io create",
		"certwright-system events create", "certwright-system events.events.k8s.io create",
	}
	facts := []string{
		"* certificatesigningrequests.certificates.k8s.io get,list,watch",
		"* certificatepolicies.certwright.dev get,list,watch", "* signers.certwright.dev get,list,watch",
		"* namespaces get,list,watch", "* services get,list,watch", "* pods get",
		"certwright-system leases.coordination.k8s.io create",
	}
	tests := []struct {
		name    string
		subject rbacv1.Subject
		want    []string
	}{
		{"approver", serviceAccount("approver"), slices.Concat(facts, events, []string{
			"* certificatesigningrequests.certificates.k8s.io patch", "* certificatesigningrequests/approval.certificates.k8s.io patch",
			"* signers.certificates.k8s.io=certwright.dev/* approve",
			"* certificatepolicies/status.certwright.dev update",
			"certwright-system leases.coordination.k8s.io=certwright-approver get,update",
		})},
		{"signer", serviceAccount("signer"), slices.Concat(facts, events, []string{
			"* certificatesigningrequests/status.certificates.k8s.io patch", "* nodes list",
			"* selfsubjectreviews.authentication.k8s.io create",
			"* podcertificaterequests.certificates.k8s.io get,list,watch", "* podcertificaterequests/status.certificates.k8s.io patch",
			"* validatingadmissionpolicies.admissionregistration.k8s.io=certwright-pod-certificate-requests get,list,watch",
			"* validatingadmissionpolicybindings.admissionregistration.k8s.io=certwright-pod-certificate-requests get,list,watch",
			"* signers.certificates.k8s.io=certwright.dev/* sign,attest",
			"* clustertrustbundles.certificates.k8s.io get,list,watch,create,update,delete",
			"* signers/status.certwright.dev update",
			"* configmaps create", "* configmaps=certwright-trust get,list,watch,update,delete",
			"certwright-system secrets get,list,watch,create,update,delete",
			"certwright-system configmaps get,list,watch",
			"certwright-system ingresses.networking.k8s.io create,delete",
			"certwright-system httproutes.gateway.networking.k8s.io create,delete",
			"certwright-system leases.coordination.k8s.io=certwright-signer get,update",
		})},
		{"webhook", serviceAccount("webhook"), []string{
			"* services list", "* nodes list", "* signers.certwright.dev list",
			"* mutatingwebhookconfigurations.admissionregistration.k8s.io=certwright-webhook get,patch",
			"* validatingwebhookconfigurations.admissionregistration.k8s.io=certwright-webhook get,patch",
			"certwright-system secrets=certwright-webhook-tls get,update",
		}},
		{"agent, as every service account", rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:serviceaccounts"}, []string{
			"* certificatesigningrequests.certificates.k8s.io create,get",
		}},
		{"the cluster's own components", rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:kube-system"}, []string{
			"* signers.certificates.k8s.io=kubernetes.io/* request",
		}},
	}
	objects := decode(t, installFile)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var want, got []string
			for _, line := range test.want {
				object, verbs, _ := cutLast(line)
				for verb := range strings.SplitSeq(verbs, ",") {
					want = append(want, object+" "+verb)
				}
			}
			for _, g := range grants(t, objects, test.subject) {
				got = append(got, g.String())
			}
			slices.Sort(want)
			for _, g := range want {
				if !slices.Contains(got, g) {
					t.Errorf("missing: %s", g)
				}
			}
			for _, g := range got {
				if !slices.Contains(want, g) {
					t.Errorf("too much: %s", g)
				}
			}
		})
	}
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndex(s, " ")
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// TestSeparation names what must never be, however TestGrants' table changes.
func TestSeparation(t *testing.T) {
	objects := decode(t, installFile)
	never := []struct {
		component, why string
		match          func(grant) bool
	}{
		{"approver", "may not sign", func(g grant) bool {
			return g.verb == "sign" || g.verb == "attest" || g.resource == "certificatesigningrequests/status"
		}},
		{"approver", "may not read Secrets", func(g grant) bool { return g.resource == "secrets" }},
		{"signer", "may not approve", func(g grant) bool {
			return g.verb == "approve" || g.resource == "certificatesigningrequests/approval"
		}},
		{"signer", "may read Secrets of its own namespace only", func(g grant) bool { return g.resource == "secrets" && g.scope != namespace }},
		{"signer", "may make routes in its own namespace only", func(g grant) bool {
			return (g.resource == "ingresses" || g.resource == "httproutes") && g.scope != namespace
		}},
		{"signer", "may make no token and no pod", func(g grant) bool {
			return strings.HasPrefix(g.resource, "serviceaccounts") || g.resource == "pods" && g.verb != "get" || strings.HasPrefix(g.resource, "pods/")
		}},
		{"signer", "may ask for no pod, and change no request of a kubelet but its status", func(g grant) bool {
			return strings.HasPrefix(g.resource, "podcertificaterequests") && slices.Contains([]string{"create", "update", "delete", "deletecollection"}, g.verb) ||
				g.resource == "podcertificaterequests" && g.verb == "patch"
		}},
		{"signer", "may change no admission policy", func(g grant) bool {
			return g.group == "admissionregistration.k8s.io" && !slices.Contains([]string{"get", "list", "watch"}, g.verb)
		}},
		{"webhook", "may read no Secret but its own", func(g grant) bool {
			return g.resource == "secrets" && (g.scope != namespace || g.name == "")
		}},
		{"webhook", "may create nothing", func(g grant) bool { return g.verb == "create" }},
		{"webhook", "may touch no request", func(g grant) bool { return g.group == "certificates.k8s.io" }},
	}
	for _, test := range never {
		t.Run(test.component+" "+test.why, func(t *testing.T) {
			for _, g := range grants(t, objects, serviceAccount(test.component)) {
				if test.match(g) {
					t.Error(g)
				}
			}
		})
	}
}
