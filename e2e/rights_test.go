// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// What the API server says about the rights of each component. About signers it is asked twice, as it asks itself when a
// request is approved or signed: for the whole signerName, and for all of its domain.
func TestComponentsHaveTheRightsOfTheirJobAndNoOthers(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.makeServiceAccounts("app")
	const csrs, certs = "certificatesigningrequests", "certificates.k8s.io"
	in := func(namespace, verb, group, resource, subresource, name string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: subresource, Name: name}
	}
	for _, c := range []struct {
		who  string
		what authorizationv1.ResourceAttributes
		may  bool
	}{
		{approver, in("", "list", certs, csrs, "", ""), true},
		{approver, in("", "patch", certs, csrs, "approval", ""), true},
		{approver, in("", "update", certs, csrs, "", ""), false},
		{approver, in("", "approve", certs, "signers", "", "certwright.dev/*"), true},
		{approver, in("", "approve", certs, "signers", "", "example.org/x"), false},
		{approver, in("", "approve", certs, "signers", "", "example.org/*"), false},
		{approver, in("", "approve", certs, "signers", "", "kubernetes.io/kube-apiserver-client"), false},
		{approver, in("", "approve", certs, "signers", "", "kubernetes.io/*"), false},
		{approver, in("", "sign", certs, "signers", "", "certwright.dev/x"), false},
		{approver, in("", "sign", certs, "signers", "", "certwright.dev/*"), false},
		{approver, in("", "update", certs, csrs, "status", ""), false},
		{approver, in(systemNamespace, "get", "", "secrets", "", ""), false},
		{approver, in(systemNamespace, "list", "", "secrets", "", ""), false},
		{approver, in("default", "get", "", "secrets", "", ""), false},

		{signer, in("", "patch", certs, csrs, "status", ""), true},
		{signer, in("", "sign", certs, "signers", "", "certwright.dev/*"), true},
		{signer, in("", "attest", certs, "signers", "", "certwright.dev/*"), true},
		{signer, in("", "sign", certs, "signers", "", "example.org/x"), false},
		{signer, in("", "sign", certs, "signers", "", "example.org/*"), false},
		{signer, in("", "sign", certs, "signers", "", "kubernetes.io/kube-apiserver-client"), false},
		{signer, in("", "attest", certs, "signers", "", "kubernetes.io/kube-apiserver-serving"), false},
		{signer, in("", "sign", certs, "signers", "", "kubernetes.io/*"), false},
		{signer, in("", "approve", certs, "signers", "", "certwright.dev/x"), false},
		{signer, in("", "approve", certs, "signers", "", "certwright.dev/*"), false},
		{signer, in("", "update", certs, csrs, "approval", ""), false},
		{signer, in(systemNamespace, "get", "", "secrets", "", "any"), true},
		{signer, in("default", "get", "", "secrets", "", "any"), false},
		{signer, in("", "list", "", "secrets", "", ""), false},
		{signer, in("kube-system", "get", "", "secrets", "", "any"), false},
		{signer, in(systemNamespace, "create", "networking.k8s.io", "ingresses", "", ""), true},
		{signer, in(systemNamespace, "create", "gateway.networking.k8s.io", "httproutes", "", ""), true},
		{signer, in(systemNamespace, "list", "networking.k8s.io", "ingresses", "", ""), false},
		{signer, in("default", "create", "networking.k8s.io", "ingresses", "", ""), false},
		{signer, in("default", "delete", "gateway.networking.k8s.io", "httproutes", "", "any"), false},
		{signer, in(systemNamespace, "create", "", "services", "", ""), false},
		{signer, in(systemNamespace, "create", "", "serviceaccounts", "token", "certwright-approver"), false},

		{webhook, in("", "list", "", "services", "", ""), true},
		{webhook, in(systemNamespace, "update", "", "secrets", "", "certwright-webhook-tls"), true},
		{webhook, in(systemNamespace, "get", "", "secrets", "", "any"), false},
		{webhook, in(systemNamespace, "list", "", "secrets", "", ""), false},
		{webhook, in("", "create", "", "pods", "", ""), false},
		{webhook, in("", "create", certs, csrs, "", ""), true}, // as every service account
		{webhook, in("", "list", certs, csrs, "", ""), false},
		{webhook, in("", "update", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "another"), false},

		{"", in("", "create", certs, csrs, "", ""), true},
		{"", in("", "get", certs, csrs, "", "some"), true},
		{"", in("", "list", certs, csrs, "", ""), false},
		{"", in("", "watch", certs, csrs, "", ""), false},
		{"", in("", "update", certs, csrs, "approval", "some"), false},
		{"", in("", "delete", certs, csrs, "", "some"), false},
	} {
		namespace, name := systemNamespace, c.who
		if c.who == "" {
			namespace, name = s.namespace, "app" // the agent runs as the pod's own service account
		}
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:" + namespace + ":" + name,
			Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
			ResourceAttributes: &c.what,
		}}
		s.must(admin.Create(s.ctx, review), "asking for the rights of %s", name)
		if review.Status.Allowed != c.may {
			s.Errorf("%s, %+v: allowed %t, want %t (%s)", name, c.what, review.Status.Allowed, c.may, review.Status.Reason)
		}
	}
}

// The same, by trying it with the components' own tokens.
func TestComponentsAreRefusedWhatIsNotTheirJob(t *testing.T) {
	t.Parallel()
	s := tell(t)
	someone := s.requester()
	s.policy(manual, forPeople(someone))
	request := s.request(someone)
	s.warned(request, "WaitingForApproval")
	approver, signer := s.serviceAccount(systemNamespace, approver), s.serviceAccount(systemNamespace, signer)

	s.isForbidden(s.decide(signer, request, certificatesv1.CertificateApproved, "by the signer"), "approving as the signer")
	approve := func(o *certificatesv1.CertificateSigningRequest) error {
		updated := o.DeepCopy()
		updated.Status.Conditions = append(updated.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "ByTheApprover",
		})
		return approver.SubResource("approval").Patch(s.ctx, updated, client.MergeFrom(o))
	}
	s.must(approve(request), "approving as the approver")
	s.refresh(request)
	signed := request.DeepCopy()
	signed.Status.Certificate = s.newCA(nil).crt
	s.isForbidden(approver.Status().Update(s.ctx, signed), "signing as the approver")
	failed := request.DeepCopy()
	failed.Status.Conditions = append(failed.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "ByTheApprover",
	})
	s.isForbidden(approver.Status().Update(s.ctx, failed), "failing as the approver")

	foreign := s.request(someone, signerName("example.org/"+s.name))
	s.isForbidden(approve(foreign), "approving for another signer as the approver")
	foreignSigned := foreign.DeepCopy()
	foreignSigned.Status.Certificate = signed.Status.Certificate
	s.isForbidden(signer.Status().Patch(s.ctx, foreignSigned, client.MergeFrom(foreign)), "signing for another signer as the signer")

	for _, namespace := range []string{s.namespace, "kube-system", metav1.NamespaceDefault, metav1.NamespaceAll} {
		s.isForbidden(signer.List(s.ctx, &corev1.SecretList{}, client.InNamespace(namespace)), "listing Secrets of namespace "+namespace+" as the signer")
	}
	s.isForbidden(approver.List(s.ctx, &corev1.SecretList{}, client.InNamespace(systemNamespace)), "listing Secrets as the approver")
}

// A pod may ask, and read what it asked for by name. It cannot see what others ask.
func TestPodsCannotListTheRequestsOfOthers(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.makeServiceAccounts("app")
	app := s.podUser(s.idlePod("app", "app"))
	request := s.request(app, commonName(""), uris(s.spiffeID("app")))
	s.must(app.Get(s.ctx, client.ObjectKeyFromObject(request), newCSR()), "reading one's own request")
	s.isForbidden(app.List(s.ctx, &certificatesv1.CertificateSigningRequestList{}), "listing requests as a pod")
	watcher, err := client.NewWithWatch(app.config, client.Options{Scheme: scheme, Mapper: admin.RESTMapper()})
	s.must(err, "logging in as the pod")
	_, err = watcher.Watch(s.ctx, &certificatesv1.CertificateSigningRequestList{})
	s.isForbidden(err, "watching requests as a pod")
	s.isForbidden(app.Delete(s.ctx, request), "deleting a request as a pod")
	s.isForbidden(s.decide(app, request, certificatesv1.CertificateApproved, "by itself"), "approving as a pod")
}

// The signers of Kubernetes itself are never ours: no policy, no Signer and no pod may name them.
func TestInvariant8_OffTheClusterCA(t *testing.T) {
	t.Parallel()
	s := tell(t)
	const clusters = "kubernetes.io/kube-apiserver-client"
	for _, name := range []string{clusters, "apps.kubernetes.io/x"} {
		policy := &v1alpha1.CertificatePolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
		policy.Spec.SignerNames = []string{s.signerName, name}
		s.isInvalid(admin.Create(s.ctx, policy), "a policy for "+name)
		o := &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
		o.Spec.SignerName = name
		o.Spec.Backends = []v1alpha1.Backend{{Name: "local", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{}}}}
		s.isInvalid(admin.Create(s.ctx, o), "a Signer for "+name)
	}

	s.makeServiceAccounts("app", "exempt")
	pod, exempt := s.podUser(s.idlePod("app", "app")), s.serviceAccount(s.namespace, "exempt")
	ask := func(u user) (*certificatesv1.CertificateSigningRequest, error) {
		o, err := s.newRequest(signerName(clusters))
		s.must(err, "making a request")
		return o, u.Create(s.ctx, o)
	}
	_, err := ask(pod)
	s.isForbidden(err, "asking "+clusters+" as a pod")
	s.contains("the refusal", err.Error(), pod.name, clusters, "certwright-kubernetes-signers-requester")

	s.make(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.nextName()},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "certwright-kubernetes-signers-requester"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: "exempt"}},
	})
	var allowed *certificatesv1.CertificateSigningRequest
	s.must(poll(s.ctx, soon, func(context.Context) error {
		allowed, err = ask(exempt)
		return err
	}), "asking %s as a service account that is exempt", clusters)
	s.made = append(s.made, allowed)

	// Whoever may ask them is left to them: nothing of ours looks at such a request, nor at that of any other signer.
	someone := s.requester()
	s.policy(forPeople(someone))
	s.signer()
	foreign := s.request(someone, signerName("example.org/foo"))
	s.issued(s.request(someone))
	s.untouched(foreign)
	s.untouched(allowed)
}

// isInvalid checks that the API server refused an object for what is in it.
func (s *story) isInvalid(err error, what string) {
	s.Helper()
	if !apierrors.IsInvalid(err) {
		s.Errorf("%s: got %v, want Invalid", what, err)
		return
	}
	s.contains("the refusal of "+what, err.Error(), "kubernetes.io")
}
