// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Roles for people: whoever views the cluster sees our kinds, and a person with the role for it approves by hand.
func TestRolesForPeople(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone := s.requester()
	policy := s.policy(manual, forPeople(someone))
	for _, role := range []string{"view", "certwright-person-approver"} {
		person := s.bound(role)
		s.isForbidden(person.Update(s.ctx, policy, client.DryRunAll), "changing a policy with the role "+role)
	}
	approver := s.bound("certwright-person-approver")
	request := s.request(someone)
	s.warned(request, "WaitingForApproval")
	s.approve(approver, request)
	s.issued(request)
	foreign := s.request(someone, signerName("example.org/"+s.name))
	s.isForbidden(s.decide(approver, foreign, certificatesv1.CertificateApproved, "not theirs"), "approving for another signer with certwright-person-approver")
}

// bound is a person with one of the roles that are installed, both of which may read policies.
func (s *story) bound(role string) user {
	s.Helper()
	name := s.nextName() + "-" + role
	s.make(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	})
	person := s.impersonate(rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated"}})
	s.until("the rights of "+role, soon, func(ctx context.Context) error {
		return person.List(ctx, &v1alpha1.CertificatePolicyList{})
	})
	return person
}

// ask runs kubectl certwright as this person, and checks how it ends.
func (s *story) ask(as user, code int, args ...string) command {
	s.Helper()
	return s.askAsAdministrator(code, append(args, "--as", as.name, "--as-group", "system:authenticated")...)
}

func (s *story) askAsAdministrator(code int, args ...string) command {
	s.Helper()
	c := s.run("", "../bin/kubectl-certwright", args...)
	if c.code != code {
		s.Errorf("kubectl certwright %q ends with %d, want %d:\n%s%s", args, c.code, code, c.out, c.err)
	}
	return c
}

// A person with the role for it decides by hand about what other people ask for: sees what waits and what it is, approves one
// and denies another.
func TestAPersonDecidesWithKubectlCertwright(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	someone := s.requester()
	policy := s.policy(manual, forPeople(someone))
	boss := s.bound("certwright-person-approver")
	good, bad := s.request(someone, commonName("good")), s.request(someone, commonName("bad"))
	for _, o := range []*certificatesv1.CertificateSigningRequest{good, bad} {
		s.warned(o, "WaitingForApproval")
		s.refresh(o)
		s.contains("the review", o.Annotations[v1alpha1.AnnotationReview], policy.Name, "Asked by: user "+someone.name,
			"Subject: ", o.Name, "kubectl certificate approve "+o.Name, "kubectl certificate deny "+o.Name)
	}

	c := s.ask(boss, 0, "pending", "--signer", s.signerName)
	s.contains("what is pending", c.out, good.Name, bad.Name, "user "+someone.name, "CN=good for digital signature, client auth", "a person (policy "+policy.Name)
	s.contains("the hint", c.err, "kubectl certwright approve NAME")
	var waiting []struct{ Policy, Review string }
	s.must(json.Unmarshal([]byte(s.ask(boss, 0, "pending", "--signer", s.signerName, "-o", "json").out), &waiting), "reading what is pending")
	if len(waiting) != 2 || waiting[0].Policy != policy.Name || waiting[1].Review == "" {
		s.Errorf("what is pending for programs is %+v", waiting)
	}
	s.contains("the explanation", s.ask(boss, 0, "explain", "csr", good.Name).out, good.Name, policy.Name+" permits this request: a person must approve it", "spec.allow.commonNames[0]")

	s.contains("without a terminal", s.ask(boss, 1, "approve", good.Name).err, "--yes")
	s.contains("without a reason", s.ask(boss, 1, "deny", "--yes", bad.Name).err, "--reason")
	s.contains("the approval", s.ask(boss, 0, "approve", "--yes", "--reason", "seen at the desk", good.Name).out, "CN=good", good.Name+" approved")
	s.ask(boss, 0, "deny", "--yes", "--reason", "not before the audit", bad.Name)
	s.becomes(bad, certificatesv1.CertificateDenied, "DeniedByPerson", "not before the audit")
	s.becomes(good, certificatesv1.CertificateApproved, "ApprovedByPerson", "seen at the desk")
	leaf := s.issued(good)
	s.contains("what was issued", s.ask(boss, 0, "inspect", "csr", good.Name).out, "CN=good", leaf.Issuer.CommonName)
	s.contains("after that", s.ask(boss, 1, "approve", "--yes", bad.Name).err, "decided already")
	s.contains("nothing pending", s.ask(boss, 0, "pending", "--signer", s.signerName).err, "Nothing waits.")
	s.contains("somebody without rights", s.ask(someone, 1, "pending").err, "forbidden", someone.name)
}

// That role shows nothing of pods: where it does not reach, kubectl certwright says what it could not read.
func TestKubectlCertwrightSaysWhatAPersonMayNotRead(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	policy := s.policy(manual)
	boss := s.bound("certwright-person-approver")
	pod := s.annotatedPod("payments")
	request := s.requestOf(pod)
	s.warned(request, "WaitingForApproval")

	forbidden := []string{"forbidden", boss.name, s.namespace}
	s.contains("what is pending", s.ask(boss, 0, "pending", "--signer", s.signerName).out, request.Name, "unknown")
	s.contains("the warning", s.ask(boss, 0, "pending", "--signer", s.signerName).err, append(forbidden, "warning: policies cannot be asked")...)
	s.contains("the explanation", s.ask(boss, 1, "explain", "csr", request.Name).err, forbidden...)
	s.contains("a pod", s.ask(boss, 1, "inspect", "pod", "payments", "-n", s.namespace).err, append(forbidden, "pods")...)

	// Who may read all that sees all of it.
	s.contains("the explanation", s.askAsAdministrator(0, "explain", "csr", request.Name).out, policy.Name+" permits this request: a person must approve it", "spec.allow.uris[0]")
	s.contains("the pod", s.askAsAdministrator(0, "inspect", "pod", "payments", "-n", s.namespace).out, "payments", s.signerName, request.Name, "has not brought all yet")

	s.contains("the approval", s.ask(boss, 0, "approve", "--yes", request.Name).out, append(forbidden, "warning: policies cannot be asked", "approved")...)
	s.podReady(pod)
	s.contains("the pod", s.askAsAdministrator(0, "inspect", "pod", "payments", "-n", s.namespace).out, "payments", request.Name, s.spiffeID("payments"), "app:")

	other := s.request(s.podUser(pod), commonName(""), dnsNames("other.example.com"))
	s.becomes(other, certificatesv1.CertificateDenied, "PolicyDenies")
	s.contains("the explanation", s.askAsAdministrator(2, "explain", "csr", other.Name).out, policy.Name, "does not permit", "spec.allow.dnsNames", "other.example.com")
}
