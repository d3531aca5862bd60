// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type (
	admissionPolicy  = admissionregistrationv1.ValidatingAdmissionPolicy
	admissionBinding = admissionregistrationv1.ValidatingAdmissionPolicyBinding
)

// Who made a request is known only where the admission policy was in force: otherwise nothing is said about it, be it right or wrong.
func TestNothingIsSaidWithoutTheAdmissionPolicy(t *testing.T) {
	change := func(policy func(*admissionPolicy), binding func(*admissionBinding)) func(client.Object) {
		return func(o client.Object) {
			if p, ok := o.(*admissionPolicy); ok && policy != nil {
				policy(p)
			}
			if b, ok := o.(*admissionBinding); ok && binding != nil {
				binding(b)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(client.Object)
		told   string
	}{
		"no policy":  {change(func(p *admissionPolicy) { p.Name = "another" }, nil), "ValidatingAdmissionPolicy certwright-pod-certificate-requests is missing"},
		"no binding": {change(nil, func(b *admissionBinding) { b.Name = "another" }), "ValidatingAdmissionPolicyBinding certwright-pod-certificate-requests is missing"},
		"a policy that fails open": {change(func(p *admissionPolicy) {
			p.Spec.FailurePolicy = ptr.To(admissionregistrationv1.Ignore)
		}, nil), "lets pass what it cannot judge"},
		"a policy without validations": {change(func(p *admissionPolicy) { p.Spec.Validations = nil }, nil), "refuses nothing"},
		"a policy that looks at some namespaces": {change(func(p *admissionPolicy) {
			p.Spec.MatchConstraints.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"guarded": "yes"}}
		}, nil), "leaves out some"},
		"a policy that looks at some requests": {change(func(p *admissionPolicy) {
			p.Spec.MatchConstraints.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "trusted", Operator: metav1.LabelSelectorOpDoesNotExist}}}
		}, nil), "leaves out some"},
		"a policy with exceptions": {change(func(p *admissionPolicy) {
			p.Spec.MatchConstraints.ExcludeResourceRules = p.Spec.MatchConstraints.ResourceRules
		}, nil), "leaves out some"},
		"a policy for one version": {change(func(p *admissionPolicy) {
			p.Spec.MatchConstraints.ResourceRules[0].APIVersions = []string{"v1"}
		}, nil), "leaves out some"},
		"a policy for one name": {change(func(p *admissionPolicy) {
			p.Spec.MatchConstraints.ResourceRules[0].ResourceNames = []string{"req-1"}
		}, nil), "leaves out some"},
		"a policy for updates":       {change(func(p *admissionPolicy) { p.Spec.MatchConstraints.ResourceRules[0].Operations[0] = "UPDATE" }, nil), "leaves out some"},
		"a policy for another kind":  {change(func(p *admissionPolicy) { p.Spec.MatchConstraints.ResourceRules[0].Resources[0] = "pods" }, nil), "leaves out some"},
		"a policy for another group": {change(func(p *admissionPolicy) { p.Spec.MatchConstraints.ResourceRules[0].APIGroups[0] = "" }, nil), "leaves out some"},
		"a policy without rules":     {change(func(p *admissionPolicy) { p.Spec.MatchConstraints = nil }, nil), "leaves out some"},
		"a policy that permits some": {change(func(p *admissionPolicy) { p.Spec.Validations[0].Expression = "object.metadata.name == 'req-1'" }, nil), "refuses nothing"},
		"a policy with parameters":   {change(func(p *admissionPolicy) { p.Spec.ParamKind = &admissionregistrationv1.ParamKind{Kind: "ConfigMap"} }, nil), "refuses nothing"},
		"one more condition": {change(func(p *admissionPolicy) {
			p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{Name: "not-now", Expression: "false"})
		}, nil), "are not those of this version"},
		"a condition that lets others pass": {change(func(p *admissionPolicy) {
			p.Spec.MatchConditions[0].Expression = "!request.userInfo.username.startsWith('system:')"
		}, nil), "are not those of this version"},
		"the signer of another namespace": {change(func(p *admissionPolicy) {
			p.Spec.MatchConditions[1].Expression = strings.ReplaceAll(p.Spec.MatchConditions[1].Expression, "certwright-system", "pki")
		}, nil), "for the service account certwright-system/certwright-signer"},
		"a binding of another policy": {change(nil, func(b *admissionBinding) { b.Spec.PolicyName = "another" }), "does not put the policy in force"},
		"a binding that only warns": {change(nil, func(b *admissionBinding) {
			b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn}
		}), "with the action Deny"},
		"a binding for some": {change(nil, func(b *admissionBinding) {
			b.Spec.MatchResources = &admissionregistrationv1.MatchResources{}
		}), "in force everywhere"},
		"a request from before the policy":              {change(func(p *admissionPolicy) { p.CreationTimestamp = metav1.NewTime(now.Add(time.Second)) }, nil), "it is older than"},
		"a request of the policy's second":              {change(func(p *admissionPolicy) { p.CreationTimestamp = metav1.NewTime(now) }, nil), "it is older than"},
		"a request of moments after it":                 {change(func(p *admissionPolicy) { p.CreationTimestamp = metav1.NewTime(now.Add(-guardSpreads)) }, nil), "or of the same moments"},
		"a request from before the policy was changed":  {change(func(p *admissionPolicy) { p.ManagedFields = written("", now.Add(time.Second)) }, nil), "as that was written last"},
		"a request of moments after it was changed":     {change(func(p *admissionPolicy) { p.ManagedFields = written("", now.Add(-guardSpreads)) }, nil), "as that was written last"},
		"a request from before the binding was changed": {change(nil, func(b *admissionBinding) { b.ManagedFields = written("", now.Add(time.Second)) }), "as that was written last"},
		"a request from before the binding":             {change(nil, func(b *admissionBinding) { b.CreationTimestamp = metav1.NewTime(now.Add(time.Second)) }), "it is older than"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []string{"right", "wrong"} {
				r := asked(podKey, day, false)
				if kind == "wrong" {
					r.Spec.UnverifiedUserAnnotations = map[string]string{"example.com/a": "b"}
				}
				w := newWorld(t, V1, c.change, in(V1, r))
				for range 3 {
					if result, err := w.reconcile(); err != nil || result.RequeueAfter <= 0 || result.RequeueAfter > time.Minute {
						t.Fatalf("result %v, error %v, want another look within a minute", result, err)
					}
					w.pass(time.Minute)
				}
				if len(w.stored().Status.Conditions) > 0 || w.local.calls > 0 {
					t.Errorf("a %s request: conditions %+v, %d signed, want no word", kind, w.stored().Status.Conditions, w.local.calls)
				}
				if told := w.notes("PodCertificateRequest"); len(told) != 1 || !strings.Contains(told[0], c.told) {
					t.Errorf("a %s request: told %q, want %q", kind, told, c.told)
				}
			}
		})
	}
}

// written are the managedFields of an object that was written at these times.
func written(subresource string, at ...time.Time) (all []metav1.ManagedFieldsEntry) {
	for _, t := range at {
		all = append(all, metav1.ManagedFieldsEntry{
			Manager: "kubectl", Operation: metav1.ManagedFieldsOperationUpdate, Subresource: subresource, Time: &metav1.Time{Time: t},
			APIVersion: "admissionregistration.k8s.io/v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1("{}"),
		})
	}
	return all
}

// What lets fewer pass, and what an API server fills in, leaves the policy in force.
func TestSignedWithTheAdmissionPolicy(t *testing.T) {
	for name, change := range map[string]func(*admissionPolicy){
		"as installed": func(*admissionPolicy) {},
		"as the API server fills it in": func(p *admissionPolicy) {
			p.Spec.MatchConstraints.NamespaceSelector, p.Spec.MatchConstraints.ObjectSelector = &metav1.LabelSelector{}, &metav1.LabelSelector{}
			p.Spec.MatchConstraints.ResourceRules[0].Scope = ptr.To(admissionregistrationv1.AllScopes)
		},
		"its status written":  func(p *admissionPolicy) { p.ManagedFields = written("status", now.Add(time.Second)) },
		"changed before":      func(p *admissionPolicy) { p.ManagedFields = written("", now.Add(-time.Minute)) },
		"for all signerNames": func(p *admissionPolicy) { p.Spec.MatchConditions = p.Spec.MatchConditions[:1] },
		"one more validation": func(p *admissionPolicy) {
			p.Spec.Validations = append(p.Spec.Validations, admissionregistrationv1.Validation{Expression: "true"})
		},
		"in other lines": func(p *admissionPolicy) {
			p.Spec.MatchConditions[1].Expression = strings.ReplaceAll(p.Spec.MatchConditions[1].Expression, " || ", " ||\n  ")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, V1, func(o client.Object) {
				if p, ok := o.(*admissionPolicy); ok {
					change(p)
				}
			}, in(V1, asked(podKey, day, false)))
			if _, err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			w.leaf()
		})
	}
}
