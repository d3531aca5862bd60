// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Under a Manual policy a pod waits, without crashing, until a person approves; then it starts.
func TestPodWaitsForAPersonAndStartsOnceApproved(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy(manual)
	boss := s.approver()
	pod := s.annotatedPod("payments")

	request := s.requestOf(pod)
	note := s.warned(request, "WaitingForApproval")
	if want := "kubectl certificate approve " + request.Name; !strings.Contains(note, want) {
		s.Errorf("the event does not say %q: %s", want, note)
	}
	s.podWaits(pod, "PodInitializing")

	s.approve(boss, request)
	s.podReady(pod)
	for _, c := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if c.RestartCount != 0 {
			s.Errorf("container %s was restarted %d times", c.Name, c.RestartCount)
		}
	}
}

// A person denies: the pod does not start, and kubectl describe pod shows who said what.
func TestPodShowsWhyItsRequestWasDenied(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy(manual)
	boss := s.approver()
	pod := s.annotatedPod("payments")

	request := s.requestOf(pod)
	s.must(s.decide(boss, request, certificatesv1.CertificateDenied, "not before the audit"), "denying")
	s.podShows(pod, request.Name, "Denied", "PersonDecides", "not before the audit")
}

// A policy denies: the pod does not start, and kubectl describe pod shows every field and what is allowed.
func TestPodShowsWhatThePolicyDoesNotAllow(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("app")
	other := "spiffe://cluster.local/ns/kube-system/sa/default"
	pod := s.newPod("app", s.annotated("app", "dns-names", "shop.example.com", "uris", other), "app", demo("app", 1000, "look", "--follow"))
	s.make(pod)
	s.podShows(pod, "Denied", "PolicyDenies", "dnsNames", "shop.example.com", "uris", other, s.spiffeID("app"))
	s.warnedOfPod(pod, "PolicyDenies", "dnsNames", "shop.example.com")
	s.podWaits(pod, "PodInitializing")
}

// annotatedPod makes a pod that asks for its SPIFFE ID, with a service account of its own.
func (s *story) annotatedPod(name string) *corev1.Pod {
	s.Helper()
	s.makeServiceAccounts(name)
	pod := s.newPod(name, s.annotated(name), name, demo("app", 1000, "look", "--follow"))
	s.make(pod)
	return pod
}

// requestOf waits for the request that the pod's agent made.
func (s *story) requestOf(pod *corev1.Pod) *certificatesv1.CertificateSigningRequest {
	s.Helper()
	found := newCSR()
	s.until("the request of pod "+pod.Name, starting, func(ctx context.Context) error {
		var list certificatesv1.CertificateSigningRequestList
		if err := admin.List(ctx, &list, client.MatchingFields{"spec.signerName": s.signerName}); err != nil {
			return err
		}
		for i := range list.Items {
			if uid := list.Items[i].Spec.Extra["authentication.kubernetes.io/pod-uid"]; len(uid) == 1 && uid[0] == string(pod.UID) {
				found = &list.Items[i]
				return nil
			}
		}
		return errors.New("there is none")
	})
	return found
}

// podWaits checks that the pod's own container has not started, and why. What the kubelet knows of it is known to others some time later.
func (s *story) podWaits(pod *corev1.Pod, reason string) {
	s.Helper()
	s.until("the state of the containers of pod "+pod.Name, soon, func(ctx context.Context) error {
		err := admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		if err == nil && len(pod.Status.ContainerStatuses) == 0 {
			err = errors.New("it has none")
		}
		return err
	})
	if w := pod.Status.ContainerStatuses[0].State.Waiting; w == nil || w.Reason != reason {
		s.Errorf("the pod does not wait: %s", describePod(pod))
	}
}

// podShows waits until the termination message of the pod's agent has all these parts.
func (s *story) podShows(pod *corev1.Pod, parts ...string) {
	s.Helper()
	s.until("pod "+pod.Name+" to show why it has no certificate", starting, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if len(pod.Status.InitContainerStatuses) == 0 {
			return errors.New("the agent did not start")
		}
		agent := pod.Status.InitContainerStatuses[0]
		for _, ended := range []*corev1.ContainerStateTerminated{agent.State.Terminated, agent.LastTerminationState.Terminated} {
			if ended == nil {
				continue
			}
			for _, part := range parts {
				if !strings.Contains(ended.Message, part) {
					return fmt.Errorf("its message is without %q: %s", part, ended.Message)
				}
			}
			return nil
		}
		return fmt.Errorf("it is %s", describePod(pod))
	})
}

// Whoever waits longest for a person may be gone when the person comes.
func TestInvariant4_NothingIsSignedForAPodThatIsGone(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	policy := s.policy(manual)
	boss := s.approver()
	s.makeServiceAccounts("app")
	pod := s.idlePod("app", "app")
	request := s.request(s.podUser(pod), commonName(""), uris(s.spiffeID("app")))
	s.warned(request, "WaitingForApproval")

	s.deleteAtOnce(pod)
	s.approve(boss, request)
	s.becomes(request, certificatesv1.CertificateFailed, "PolicyDenies", policy.Name, "requester", "pod "+s.namespace+"/app is gone")
}

// The name of a StatefulSet's pod comes back with another pod behind it: what the first one asked for is not signed.
func TestInvariant4_NothingIsSignedForAPodThatWasReplacedUnderItsName(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.makeServiceAccounts("db")
	old := s.idlePod("db-0", "db")
	early := s.request(s.podUser(old), commonName(""), uris(s.spiffeID("db")))

	s.deleteAtOnce(old)
	now := s.idlePod("db-0", "db")
	s.policy()
	s.becomes(early, certificatesv1.CertificateDenied, "PolicyDenies", "requester", "was replaced", string(old.UID), string(now.UID))
	s.issued(s.request(s.podUser(now), commonName(""), uris(s.spiffeID("db"))))
}

// deleteAtOnce deletes a pod and waits until the API server has forgotten it.
func (s *story) deleteAtOnce(pod *corev1.Pod) {
	s.Helper()
	s.must(admin.Delete(s.ctx, pod, client.GracePeriodSeconds(0)), "deleting pod %s", pod.Name)
	s.until("pod "+pod.Name+" to be gone", soon, func(ctx context.Context) error {
		err := admin.Get(ctx, client.ObjectKeyFromObject(pod), &corev1.Pod{})
		if err == nil {
			return errors.New("it is still there")
		}
		return client.IgnoreNotFound(err)
	})
}

// A person approves; before the signer comes to it, an administrator makes the policy stricter. The policy wins.
func TestInvariant1_APolicyMadeStricterAfterApprovalWins(t *testing.T) {
	t.Parallel()
	s := tell(t)
	someone, boss := s.requester(), s.approver()
	policy := s.policy(manual, forPeople(someone))
	request := s.request(someone, commonName("anyone at all"))
	s.approve(boss, request)

	s.change(policy, func() { policy.Spec.Allow.CommonNames = []string{"nobody"} })
	s.policyIs(policy, "True", "InForce")
	s.signer()
	s.becomes(request, certificatesv1.CertificateFailed, "PolicyDenies", policy.Name, "commonName", "anyone at all", "nobody")
}

// Approval alone signs nothing: not what no policy selects, and not what a policy that selects it does not allow.
func TestInvariant1_NothingIsSignedThatNoPolicyPermits(t *testing.T) {
	t.Parallel()
	s := tell(t)
	unselected, selected, boss := s.person("unselected", mayRequest), s.person("selected", mayRequest), s.approver()
	first, second := s.request(unselected), s.request(selected, commonName("anyone at all"))
	s.approve(boss, first)
	s.approve(boss, second)

	policy := s.policy(forPeople(selected), func(p *v1alpha1.CertificatePolicySpec) { p.Allow.CommonNames = []string{"nobody"} })
	s.signer()
	s.becomes(first, certificatesv1.CertificateFailed, "NoPolicy", "Approved, but not permitted")
	s.becomes(second, certificatesv1.CertificateFailed, "PolicyDenies", "Approved, but not permitted", policy.Name, "anyone at all", "nobody")
	s.warned(first, "NoPolicy")
	s.warned(second, "PolicyDenies")
}
