// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"
	"fmt"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/policy/judge"
)

// AdmissionPolicy is the name of the ValidatingAdmissionPolicy, and of its binding, that lets nobody but the kubelet of a pod ask for the pod.
// A PodCertificateRequest does not tell who created it: what the policy has not seen may be anybody's.
const AdmissionPolicy = "certwright-pod-certificate-requests"

const (
	// guardAgain is when it is looked again whether the policy is in force.
	guardAgain = 5 * time.Second
	// guardSpreads is how long API servers may take to hear of a new policy; they look each second.
	guardSpreads = 10 * time.Second
)

// guarded returns nil if a request was created while the admission policy was in force. Nothing is ever said about one that was not.
func guarded(ctx context.Context, reader client.Reader, created metav1.Time) error {
	var policy admissionregistrationv1.ValidatingAdmissionPolicy
	var binding admissionregistrationv1.ValidatingAdmissionPolicyBinding
	for kind, object := range map[string]client.Object{"ValidatingAdmissionPolicy": &policy, "ValidatingAdmissionPolicyBinding": &binding} {
		switch err := reader.Get(ctx, client.ObjectKey{Name: AdmissionPolicy}, object); {
		case apierrors.IsNotFound(err):
			return unguarded("%s %s is missing", kind, AdmissionPolicy)
		case err != nil:
			return fmt.Errorf("reading whether only kubelets may create PodCertificateRequests: %w", err)
		}
	}
	failure := policy.Spec.FailurePolicy
	switch {
	case failure != nil && *failure != admissionregistrationv1.Fail, len(policy.Spec.Validations) == 0:
		return unguarded("ValidatingAdmissionPolicy %s refuses nothing, or lets pass what it cannot judge", AdmissionPolicy)
	case binding.Spec.PolicyName != AdmissionPolicy, binding.Spec.MatchResources != nil,
		!slices.Contains(binding.Spec.ValidationActions, admissionregistrationv1.Deny):
		return unguarded("ValidatingAdmissionPolicyBinding %s does not put the policy in force everywhere, with the action Deny", AdmissionPolicy)
	case created.Sub(policy.CreationTimestamp.Time) <= guardSpreads, created.Sub(binding.CreationTimestamp.Time) <= guardSpreads:
		return unguarded("it is older than ValidatingAdmissionPolicy %s or its binding, or of the same moments. Kubernetes deletes it after a quarter of an hour, and the kubelet asks anew", AdmissionPolicy)
	}
	return nil
}

func unguarded(format string, args ...any) error {
	return &judge.WaitError{After: guardAgain, Reason: "there is no telling whether the kubelet of the pod made this request: " + fmt.Sprintf(format, args...)}
}
