// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

// TestWebhookConfiguration: pods that did not ask never reach the webhook.
func TestWebhookConfiguration(t *testing.T) {
	objects := decode(t, installFile)
	configurations := all[admissionregistrationv1.MutatingWebhookConfiguration](objects)
	configuration := configurations[webhook.ConfigurationName]
	if len(configurations) != 1 || configuration == nil || len(configuration.Webhooks) != 1 {
		t.Fatalf("configurations %v, want %s with one webhook", keys(configurations), webhook.ConfigurationName)
	}
	hook := configuration.Webhooks[0]
	if len(hook.MatchConditions) == 0 || !strings.Contains(hook.MatchConditions[0].Expression, "'"+annotation.AutoTLS+"'") ||
		!strings.Contains(hook.MatchConditions[0].Expression, "'"+annotation.Trust+"'") {
		t.Errorf("match conditions %v, want one on the annotations first", hook.MatchConditions)
	}
	if *hook.FailurePolicy != admissionregistrationv1.Fail || *hook.SideEffects != admissionregistrationv1.SideEffectClassNone {
		t.Errorf("failure policy %s, side effects %s", *hook.FailurePolicy, *hook.SideEffects)
	}
	checkClient(t, objects, hook.ClientConfig)
}

// TestValidatingWebhookConfiguration: Certwright's own kinds are checked, and can be written while nobody answers.
func TestValidatingWebhookConfiguration(t *testing.T) {
	objects := decode(t, installFile)
	configurations := all[admissionregistrationv1.ValidatingWebhookConfiguration](objects)
	configuration := configurations[webhook.ConfigurationName]
	if len(configurations) != 1 || configuration == nil {
		t.Fatalf("configurations %v, want %s", keys(configurations), webhook.ConfigurationName)
	}
	var resources []string
	for _, hook := range configuration.Webhooks {
		for _, rule := range hook.Rules {
			if !slices.Equal(rule.APIGroups, []string{v1alpha1.GroupVersion.Group}) {
				t.Errorf("%s: looks at %v", hook.Name, rule.APIGroups)
			}
			resources = append(resources, rule.Resources...)
		}
		if *hook.FailurePolicy != admissionregistrationv1.Ignore || *hook.SideEffects != admissionregistrationv1.SideEffectClassNone {
			t.Errorf("%s: failure policy %s, side effects %s", hook.Name, *hook.FailurePolicy, *hook.SideEffects)
		}
		checkClient(t, objects, hook.ClientConfig)
	}
	if slices.Sort(resources); !slices.Equal(resources, []string{"certificatepolicies", "signers"}) {
		t.Errorf("looks at %v", resources)
	}
}

// checkClient: a webhook is reached by a Service that exists, and its CA is not for manifests to set.
func checkClient(t *testing.T, objects []runtime.Object, config admissionregistrationv1.WebhookClientConfig) {
	t.Helper()
	if len(config.CABundle) > 0 {
		t.Error("caBundle is set: applying the manifest would undo what the webhook wrote")
	}
	ref := config.Service
	service := all[corev1.Service](objects)[ref.Namespace+"/"+ref.Name]
	if service == nil || !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == *ref.Port }) {
		t.Errorf("service %s/%s port %d does not exist", ref.Namespace, ref.Name, *ref.Port)
	}
}

// TestServingSecretIsEmpty: what the webhook writes into its Secret outlives the next kubectl apply, whatever its type.
func TestServingSecretIsEmpty(t *testing.T) {
	secrets := all[corev1.Secret](decode(t, installFile))
	secret := secrets[namespace+"/"+webhook.SecretName]
	if len(secrets) != 1 || secret == nil {
		t.Fatalf("secrets %v, want %s", keys(secrets), webhook.SecretName)
	}
	if secret.Data != nil || secret.StringData != nil || secret.Type != "" {
		t.Errorf("data %v, type %q: applying the manifest would undo what the webhook wrote, or be refused", secret.Data, secret.Type)
	}
}

func admissionPolicies(t *testing.T) map[string]*admissionregistrationv1.ValidatingAdmissionPolicy {
	t.Helper()
	return all[admissionregistrationv1.ValidatingAdmissionPolicy](decode(t, installFile))
}

func TestAdmissionPoliciesAreInForce(t *testing.T) {
	policies := admissionPolicies(t)
	bindings := all[admissionregistrationv1.ValidatingAdmissionPolicyBinding](decode(t, installFile))
	for name, policy := range policies {
		if policy.Spec.FailurePolicy == nil || *policy.Spec.FailurePolicy != admissionregistrationv1.Fail {
			t.Errorf("%s: failure policy must be Fail", name)
		}
		if binding := bindings[name]; binding == nil || binding.Spec.PolicyName != name || binding.Spec.MatchResources != nil ||
			!slices.Equal(binding.Spec.ValidationActions, []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}) {
			t.Errorf("%s: no binding that denies everywhere", name)
		}
		// What fails closed must look at little, or an outage of one expression is one of the cluster.
		if len(policy.Spec.MatchConditions) == 0 {
			t.Errorf("%s: no match conditions", name)
		}
		for i, validation := range policy.Spec.Validations {
			if validation.Message == "" {
				t.Errorf("%s: validation %d says nothing where its messageExpression fails", name, i)
			}
		}
	}
	want := []string{
		"certwright-events", "certwright-kubernetes-signers", "certwright-pod-certificate-requests", "certwright-pods", "certwright-request-metadata", "certwright-request-review", "certwright-request-size",
		"certwright-request-writes", "certwright-signer-routes", "certwright-signer-writes", "certwright-trust-configmaps", "certwright-webhook-writes",
	}
	if got := keys(policies); !slices.Equal(got, want) {
		t.Errorf("policies %v, want %v", got, want)
	}
}

// TestPodsAreLookedAtAlike: the policy on pods looks at those that the webhook is asked about, and at no others.
func TestPodsAreLookedAtAlike(t *testing.T) {
	hook := all[admissionregistrationv1.MutatingWebhookConfiguration](decode(t, installFile))[webhook.ConfigurationName].Webhooks[0]
	constraints := admissionPolicies(t)["certwright-pods"].Spec.MatchConstraints
	if len(constraints.ResourceRules) != 1 || !reflect.DeepEqual([]admissionregistrationv1.RuleWithOperations{constraints.ResourceRules[0].RuleWithOperations}, hook.Rules) {
		t.Errorf("rules %+v, the webhook's are %+v", constraints.ResourceRules, hook.Rules)
	}
	if !reflect.DeepEqual(constraints.NamespaceSelector, hook.NamespaceSelector) || constraints.ObjectSelector != nil || hook.ObjectSelector != nil {
		t.Errorf("namespace selector %s, the webhook's is %s", metav1.FormatLabelSelector(constraints.NamespaceSelector), metav1.FormatLabelSelector(hook.NamespaceSelector))
	}
	if got := admissionPolicies(t)["certwright-pods"].Spec.MatchConditions; !reflect.DeepEqual(got, hook.MatchConditions) {
		t.Errorf("match conditions %+v, the webhook's are %+v", got, hook.MatchConditions)
	}
}

// TestAdmissionPoliciesKnowTheNames: expressions repeat names that the code owns.
func TestAdmissionPoliciesKnowTheNames(t *testing.T) {
	account := func(component string) string {
		return fmt.Sprintf("'system:serviceaccount:%s:%s'", namespace, serviceAccount(component).Name)
	}
	for name, texts := range map[string][]string{
		"certwright-pods": {
			"'" + inject.AgentContainer + "'", "'" + agent.ConfigEnv + "'", fmt.Sprint(inject.SharedGroup), "'" + annotation.Delivery + "'",
			"'" + annotation.DeliveredBy + "'", "'" + annotation.AutoTLS + "'", "'" + annotation.Trust + "'", "'" + annotation.SPIFFESocket + "'",
			fmt.Sprintf("== '%s'", annotation.DeliveryKubelet), fmt.Sprintf("== '%s'", annotation.DeliveryAgent),
			"'" + inject.TLSVolume + "'", "'" + inject.TrustVolume + "'", "'" + inject.TokenVolume + "'", "'" + inject.SPIFFEVolume + "'",
		},
		"certwright-signer-writes": {
			account("signer"), "'" + v1alpha1.TrustConfigMap + "'",
			"'" + strings.TrimPrefix(v1alpha1.ClusterTrustBundleName("a.b/c"), "a.b:c") + "'",
		},
		"certwright-trust-configmaps":         {account("signer"), "'" + v1alpha1.TrustConfigMap + "'"},
		"certwright-pod-certificate-requests": {fmt.Sprintf("authorizer.serviceAccount('%s', '%s')", namespace, serviceAccount("signer").Name)},
		"certwright-signer-routes":            {account("signer"), "'" + namespace + "'", "'certwright-acme-solver'"},
		"certwright-request-writes":           {account("approver"), account("signer"), "'" + v1alpha1.AnnotationReview + "'", "'" + v1alpha1.AnnotationRenewAt + "'"},
		"certwright-request-review":           {account("approver"), "'" + v1alpha1.AnnotationReview + "'"},
		"certwright-webhook-writes":           {account("webhook"), "'" + webhook.SecretName + "'", "'" + webhook.ConfigurationName + "'"},
	} {
		spec := admissionPolicies(t)[name].Spec
		var all []string
		for _, c := range spec.MatchConditions {
			all = append(all, c.Expression)
		}
		for _, v := range spec.Variables {
			all = append(all, v.Expression)
		}
		for _, v := range spec.Validations {
			all = append(all, v.Expression)
		}
		for _, text := range texts {
			if !strings.Contains(strings.Join(all, "\n"), text) {
				t.Errorf("%s: no expression has %s", name, text)
			}
		}
	}
}
