// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The signer dies between signing and writing: the request is issued once, by whoever comes next.
func TestASignerKilledBetweenSigningAndWritingIssuesOnce(t *testing.T) {
	s := tell(t)
	o := s.signer()
	someone, boss := s.requester(), s.approver()
	s.policy(manual, forPeople(someone))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err, "making a key")
	history := s.watchRequests()
	request := s.request(someone, func(w *wish) { w.key = key })
	gate := s.denyIssuing(request)
	s.approve(boss, request)
	leader := s.signedWithoutWriting(request)

	s.killComponent(leader)
	s.must(admin.Delete(s.ctx, gate), "letting the signer write again")
	s.issuedOnce(history, request.Name)
	s.refresh(request)
	leaf := s.issued(request)
	if !key.PublicKey.Equal(leaf.PublicKey) {
		s.Error("the certificate is of another key than the request")
	}
	s.chainsTo(o, request)
	s.replaced(signer, []corev1.Pod{})
}

// denyIssuing has the API server refuse what the signer writes to the status of this request, until the binding that it
// returns is deleted.
func (s *story) denyIssuing(o *certificatesv1.CertificateSigningRequest) client.Object {
	s.Helper()
	itself := s.serviceAccount(systemNamespace, signer)
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: s.nextName()},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr.To(admissionregistrationv1.Fail),
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				ResourceNames: []string{o.Name},
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update},
					Rule: admissionregistrationv1.Rule{
						APIGroups: []string{certificatesv1.GroupName}, APIVersions: []string{"v1"}, Resources: []string{"certificatesigningrequests/status"},
					},
				},
			}}},
			Validations: []admissionregistrationv1.Validation{{
				Expression: fmt.Sprintf("request.userInfo.username != '%s'", itself.name), Message: "the story keeps the signer from writing",
			}},
		},
	}
	s.make(policy)
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy.Name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policy.Name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	s.make(binding)
	s.until("the signer to be kept from writing", soon, func(ctx context.Context) error {
		failed := o.DeepCopy()
		failed.Status.Conditions = append(failed.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "InADryRun",
		})
		err := itself.SubResource("status").Patch(ctx, failed, client.MergeFrom(o), &client.SubResourcePatchOptions{
			PatchOptions: client.PatchOptions{DryRun: []string{metav1.DryRunAll}},
		})
		if err == nil || !strings.Contains(err.Error(), policy.Spec.Validations[0].Message) {
			return fmt.Errorf("its write ends with: %w", errors.Join(err, errors.New("not refused")))
		}
		return nil
	})
	return binding
}

// signedWithoutWriting waits until a replica of the signer says that it has a certificate for the request and cannot write
// it, and returns that replica.
func (s *story) signedWithoutWriting(o *certificatesv1.CertificateSigningRequest) (leader *corev1.Pod) {
	s.Helper()
	s.until("the signer to sign and be unable to write", soon, func(ctx context.Context) error {
		for _, pod := range s.componentPods(signer) {
			text, err := logs(ctx, pod.Namespace, pod.Name, pod.Spec.Containers[0].Name)
			if err != nil {
				return err
			}
			for line := range strings.Lines(text) {
				if strings.Contains(line, o.Name) && strings.Contains(line, "writing the certificate") {
					leader = &pod
					return nil
				}
			}
		}
		return errors.New("no replica says so")
	})
	return leader
}
