// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// A policy that cannot be compiled is refused when it is applied. One that gets past the webhook all the same says so, and what
// was in force before it stays in force.
func TestInvariant9_AGoodPolicyIsNotReplacedByABrokenOne(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone := s.requester()
	policy := s.policy(forPeople(someone))
	before := policy.DeepCopy()
	policy.Spec.Allow.DNSNames = []string{"{nonsense}.example.com"}
	err := admin.Patch(s.ctx, policy, client.MergeFrom(before))
	if !apierrors.IsInvalid(err) {
		s.Fatalf("got %v, want the broken policy to be refused", err)
	}
	s.contains("the refusal", err.Error(), "spec.allow.dnsNames[0]", "{nonsense}.example.com", "{service}")

	s.passOverUnchecked()
	s.change(policy, func() { policy.Labels = map[string]string{unchecked: "true"} }) // neither version may be without it
	s.change(policy, func() { policy.Spec.Allow.DNSNames = []string{"{nonsense}.example.com"} })
	s.policyIs(policy, metav1.ConditionFalse, "Invalid")
	s.contains("the policy's condition", policy.Status.Conditions[0].Message,
		"Generation 1 stays in force", "spec.allow.dnsNames[0]", "{nonsense}.example.com", "{service}")
	s.issued(s.request(someone))
	s.becomes(s.request(someone, dnsNames("x.example.com")), certificatesv1.CertificateDenied, "PolicyDenies", "dnsNames")
	s.change(policy, func() { policy.Spec.Allow.DNSNames = []string{"x.example.com"} })
	s.policyIs(policy, metav1.ConditionTrue, "InForce")
	s.issued(s.request(someone, dnsNames("x.example.com")))
}

// unchecked is a label of policies about which the API server does not ask the webhook while a story wants it so, as if nobody
// had answered it.
const unchecked = "e2e.certwright.dev/unchecked"

// passOverUnchecked has the API server pass over the webhook for policies with that label until the story ends.
func (s *story) passOverUnchecked() {
	s.Helper()
	o := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhook}}
	set := func(selector *metav1.LabelSelector) {
		s.change(o, func() {
			for i := range o.Webhooks {
				o.Webhooks[i].ObjectSelector = selector
			}
		})
	}
	s.Cleanup(func() { set(&metav1.LabelSelector{}) })
	set(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: unchecked, Operator: metav1.LabelSelectorOpDoesNotExist}}})
	s.until("the webhook to be passed over", soon, func(ctx context.Context) error {
		broken := &v1alpha1.CertificatePolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name + "-broken", Labels: map[string]string{unchecked: "true"}}}
		broken.Spec.SignerNames, broken.Spec.Allow.DNSNames = []string{s.signerName}, []string{"{nonsense}"}
		return admin.Create(ctx, broken, client.DryRunAll)
	})
}

// kubectl apply of a policy with mistakes in its expressions is refused, with the field, the line and the column of each.
func TestKubectlApplyRefusesAWrongExpressionWithLineAndColumn(t *testing.T) {
	t.Parallel()
	s := tell(t)
	const broken = `apiVersion: certwright.dev/v1alpha1
kind: CertificatePolicy
metadata:
  name: NAME
spec:
  signerNames: [SIGNER]
  requesters: {namespaceSelector: {}, serviceAccounts: ["*"]}
  allow: {uris: ["spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"], usages: [digital signature]}
  validations:
  - expression: request.uris.size() == 1
  - expression: |-
      request.dnsNames.all(name,
        name.startsWith(reqester.namespace))
  - expression: request.uris.size()
`
	c := s.run(fill(broken, "NAME", s.name, "SIGNER", s.signerName), "kubectl", "apply", "-f", "-")
	if c.code == 0 {
		s.Fatalf("the policy was admitted: %s", c.out)
	}
	s.contains("what kubectl says", c.err, s.name, "spec.validations[1].expression", "2:19", "reqester",
		"spec.validations[2].expression", "must yield bool, yields int")
	s.isNotThere(&v1alpha1.CertificatePolicy{}, s.name)
	good := fill(broken, "NAME", s.name, "SIGNER", s.signerName, "reqester", "requester", "uris.size()\n", "uris.size() == 1\n")
	if c := s.run(good, "kubectl", "apply", "--dry-run=server", "-f", "-"); c.code != 0 {
		s.Errorf("without its mistakes the policy is refused as well: %s", c.err)
	}
}

// isNotThere checks that an object of the cluster's scope does not exist.
func (s *story) isNotThere(o client.Object, name string) {
	s.Helper()
	s.must(isGone(s.ctx, o, name), "looking for %T %s", o, name)
}

// What an expression does not allow is refused with its message, which kubectl describe shows.
func TestKubectlDescribeShowsTheMessageOfAValidation(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone := s.requester()
	policy := s.policy(forPeople(someone), func(p *v1alpha1.CertificatePolicySpec) {
		p.Validations = []v1alpha1.Validation{{
			Expression:        "request.subject.commonName.startsWith('team-')",
			Message:           "a common name that starts with team-",
			MessageExpression: `"the common name of a team, such as team-" + request.subject.commonName`,
		}, {
			Expression: "request.key.size >= 256", Message: "this one holds",
		}}
	})
	s.issued(s.request(someone, commonName("team-shop")))
	request := s.request(someone, commonName("shop"))
	s.becomes(request, certificatesv1.CertificateDenied, "PolicyDenies", policy.Name, "validations[0]", "the common name of a team, such as team-shop")
	s.warned(request, "PolicyDenies")
	c := s.run("", "kubectl", "describe", "csr", request.Name)
	s.contains("what kubectl describes", c.out, "Denied", "PolicyDenies", policy.Name, "the common name of a team, such as team-shop")
	if c.code != 0 {
		s.Errorf("kubectl describe ends with %d: %s", c.code, c.err)
	}
}
