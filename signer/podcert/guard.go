// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
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

// serviceAccount is whose rights tell the admission policy which signerNames are ours.
const serviceAccount = "certwright-signer"

// guarded returns nil if a request was created while the admission policy was in force. Nothing is ever said about one that was not.
func (r *Reconciler) guarded(ctx context.Context, created metav1.Time) error {
	var policy admissionregistrationv1.ValidatingAdmissionPolicy
	var binding admissionregistrationv1.ValidatingAdmissionPolicyBinding
	for kind, object := range map[string]client.Object{"ValidatingAdmissionPolicy": &policy, "ValidatingAdmissionPolicyBinding": &binding} {
		switch err := r.Client.Get(ctx, client.ObjectKey{Name: AdmissionPolicy}, object); {
		case apierrors.IsNotFound(err):
			return unguarded("%s %s is missing", kind, AdmissionPolicy)
		case err != nil:
			return fmt.Errorf("reading whether only kubelets may create PodCertificateRequests: %w", err)
		}
	}
	switch failure := policy.Spec.FailurePolicy; {
	case failure != nil && *failure != admissionregistrationv1.Fail, !refuses(policy.Spec):
		return unguarded("ValidatingAdmissionPolicy %s refuses nothing, or lets pass what it cannot judge", AdmissionPolicy)
	case !looksAtAll(policy.Spec.MatchConstraints):
		return unguarded("spec.matchConstraints of ValidatingAdmissionPolicy %s leaves out some PodCertificateRequests", AdmissionPolicy)
	case !passesOnlyNodes(policy.Spec.MatchConditions, r.Namespace):
		return unguarded("spec.matchConditions of ValidatingAdmissionPolicy %s are not those of this version of Certwright for the service account %s/%s", AdmissionPolicy, r.Namespace, serviceAccount)
	case binding.Spec.PolicyName != AdmissionPolicy, binding.Spec.MatchResources != nil,
		!slices.Contains(binding.Spec.ValidationActions, admissionregistrationv1.Deny):
		return unguarded("ValidatingAdmissionPolicyBinding %s does not put the policy in force everywhere, with the action Deny", AdmissionPolicy)
	case created.Sub(writtenLast(&policy)) <= guardSpreads, created.Sub(writtenLast(&binding)) <= guardSpreads:
		return unguarded("it is older than ValidatingAdmissionPolicy %s or its binding, as that was written last, or of the same moments. Kubernetes deletes it after a quarter of an hour, and the kubelet asks anew", AdmissionPolicy)
	}
	return nil
}

// writtenLast returns when an object was created, or written last but for its status: what it was before that write nobody knows, such as
// a policy that looked at nothing. The API server writes this down (managedFields), and does not where a write changes nothing.
func writtenLast(o client.Object) time.Time {
	last := o.GetCreationTimestamp().Time
	for _, m := range o.GetManagedFields() {
		if m.Subresource == "" && m.Time != nil && m.Time.After(last) {
			last = m.Time.Time
		}
	}
	return last
}

// refuses reports whether whatever the policy looks at is refused. A policy with parameters may look at nothing.
func refuses(spec admissionregistrationv1.ValidatingAdmissionPolicySpec) bool {
	return spec.ParamKind == nil && slices.ContainsFunc(spec.Validations, func(v admissionregistrationv1.Validation) bool { return v.Expression == "false" })
}

// looksAtAll reports whether all PodCertificateRequests are looked at when they are created, in all namespaces and of any version.
func looksAtAll(m *admissionregistrationv1.MatchResources) bool {
	if m == nil || len(m.ExcludeResourceRules) > 0 || selects(m.NamespaceSelector) || selects(m.ObjectSelector) {
		return false
	}
	return slices.ContainsFunc(m.ResourceRules, func(r admissionregistrationv1.NamedRuleWithOperations) bool {
		return slices.Contains(r.APIGroups, certificatesv1.GroupName) && slices.Contains(r.APIVersions, "*") &&
			slices.Contains(r.Operations, admissionregistrationv1.Create) && slices.Contains(r.Resources, "podcertificaterequests") &&
			len(r.ResourceNames) == 0 && (r.Scope == nil || *r.Scope != admissionregistrationv1.ClusterScope)
	})
}

// selects reports whether a selector leaves anything out.
func selects(s *metav1.LabelSelector) bool {
	return s != nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0
}

// passesOnlyNodes reports whether the conditions let nobody pass for our signerNames but the node that a request names. They are compared
// as text: what another expression comes to nobody can tell. One that names a service account which may sign nothing, such as that of
// another namespace, would have the policy look at nothing.
func passesOnlyNodes(conditions []admissionregistrationv1.MatchCondition, namespace string) bool {
	may := fmt.Sprintf("authorizer.serviceAccount('%s', '%s').group('certificates.k8s.io').resource('signers')", namespace, serviceAccount)
	known := []string{
		"!(request.userInfo.username == 'system:node:' + object.spec.nodeName && 'system:nodes' in request.userInfo.groups)",
		may + ".name(object.spec.signerName).check('sign').allowed() || " + may + ".name(object.spec.signerName.split('/')[0] + '/*').check('sign').allowed()",
	}
	return !slices.ContainsFunc(conditions, func(c admissionregistrationv1.MatchCondition) bool {
		return !slices.Contains(known, strings.Join(strings.Fields(c.Expression), " "))
	})
}

func unguarded(format string, args ...any) error {
	return &judge.WaitError{After: guardAgain, Reason: "there is no telling whether the kubelet of the pod made this request: " + fmt.Sprintf(format, args...)}
}
