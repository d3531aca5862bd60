// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// agentPod makes a pod whose agent delivers, with a service account of its name, and returns it when it runs, with what it sees.
func (s *story) agentPod(name string, more ...string) (*corev1.Pod, look) {
	s.Helper()
	s.makeServiceAccounts(name)
	pod := s.newPod(name, s.annotated(name, append(more, "delivery", "agent")...), name, demo("app", 1000, "look", "--follow"))
	s.make(pod)
	s.podReady(pod)
	return pod, s.viewOf(pod, "anything", func(look) bool { return true })
}

// viewOf waits until the app of a pod sees enough.
func (s *story) viewOf(pod *corev1.Pod, what string, enough func(look) bool) (l look) {
	s.Helper()
	s.until("pod "+pod.Name+" to see "+what, renewing, func(ctx context.Context) error {
		if err := lastLine(ctx, pod, "app", &l); err != nil {
			return err
		}
		if !enough(l) {
			return fmt.Errorf("it sees %+v", l)
		}
		return nil
	})
	return l
}

// other is what sees another certificate than that.
func (l look) other() func(look) bool {
	return func(now look) bool { return now.Certificate.Serial != l.Certificate.Serial }
}

// requestsOf returns the requests that the pod's agent made, the oldest first.
func (s *story) requestsOf(ctx context.Context, pod *corev1.Pod) (found []certificatesv1.CertificateSigningRequest, err error) {
	var list certificatesv1.CertificateSigningRequestList
	if err := admin.List(ctx, &list, client.MatchingFields{"spec.signerName": s.signerName}); err != nil {
		return nil, err
	}
	for _, o := range list.Items {
		if uid := o.Spec.Extra["authentication.kubernetes.io/pod-uid"]; len(uid) == 1 && uid[0] == string(pod.UID) {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b certificatesv1.CertificateSigningRequest) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	return found, nil
}

// A person has certificates renewed long before their time: of a pod, of a Deployment, of all that a Signer signed. Each has a new key,
// and nothing is renewed twice.
func TestAPersonHasCertificatesRenewed(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	pod, first := s.agentPod("app")
	s.makeServiceAccounts("web")
	s.deployment("web", 2, demo("app", 1000, "look", "--follow"))
	web := s.pods("web", 2)
	var before []look
	for i := range web {
		s.podReady(&web[i])
		before = append(before, s.viewOf(&web[i], "anything", func(look) bool { return true }))
	}

	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	s.askAsAdministrator(0, "renew", "deployment", "web", "-n", s.namespace, "--yes")
	second := s.viewOf(pod, "another certificate", first.other())
	for i := range web {
		before[i] = s.viewOf(&web[i], "another certificate", before[i].other())
	}
	s.askAsAdministrator(0, "renew", "--signer", s.signerName, "-n", s.namespace, "--yes")
	s.viewOf(pod, "yet another certificate", second.other())
	for i := range web {
		s.viewOf(&web[i], "yet another certificate", before[i].other())
	}

	requests, err := s.requestsOf(s.ctx, pod)
	s.must(err, "listing requests")
	if len(requests) != 3 {
		s.Errorf("the pod was renewed twice, and made %d requests, want 3", len(requests))
	}
	keys := map[string]bool{}
	for i := range requests {
		leaf, err := leafOf(&requests[i])
		s.must(err, "reading a certificate")
		keys[string(leaf.RawSubjectPublicKeyInfo)] = true
	}
	if len(keys) != len(requests) {
		s.Errorf("%d certificates have %d keys", len(requests), len(keys))
	}
}

// An agent that is killed while its request waits for a person finds that request again, with its key: a pod never has two open ones.
// When the pod is gone, nothing of it is left but the request's record.
func TestARestartedAgentFindsItsRequestAgain(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	policy := s.policy()
	boss := s.approver()
	pod, first := s.agentPod("app")
	s.change(policy, func() { policy.Spec.Approval = v1alpha1.ApprovalManual })
	s.policyIs(policy, "True", "InForce")

	s.askAsAdministrator(0, "renew", "pod", pod.Name, "-n", s.namespace)
	var open certificatesv1.CertificateSigningRequest
	s.until("the pod to ask anew", renewing, func(ctx context.Context) error {
		requests, err := s.requestsOf(ctx, pod)
		if err == nil && len(requests) < 2 {
			err = fmt.Errorf("there are %d requests", len(requests))
		}
		if err != nil {
			return err
		}
		open = requests[len(requests)-1]
		return nil
	})
	s.warned(&open, "WaitingForApproval")
	for range 2 {
		s.killAgent(pod)
	}
	s.podReady(pod)
	s.approve(boss, &open)
	leaf := s.issued(&open)
	s.viewOf(pod, "the certificate of the request that it made before it was killed", func(l look) bool {
		return l.Certificate.Serial == leaf.SerialNumber.Text(16) && l.Certificate.Serial != first.Certificate.Serial
	})
	requests, err := s.requestsOf(s.ctx, pod)
	s.must(err, "listing requests")
	if len(requests) != 2 {
		s.Errorf("the pod made %d requests, want 2: one before, and one that the agent found again twice", len(requests))
	}
	s.deleteAtOnce(pod)
	s.leavesNothing(pod)
}

// leavesNothing checks that nothing in the cluster belongs to a pod that is gone: no Secret, no ConfigMap, no open request.
func (s *story) leavesNothing(pod *corev1.Pod) {
	s.Helper()
	for what, list := range map[string]client.ObjectList{"a Secret": &corev1.SecretList{}, "a pod": &corev1.PodList{}} {
		s.must(admin.List(s.ctx, list, client.InNamespace(pod.Namespace)), "listing for %s", what)
		switch l := list.(type) {
		case *corev1.SecretList:
			for _, o := range l.Items {
				s.Errorf("Secret %s is left", o.Name)
			}
		case *corev1.PodList:
			if slices.ContainsFunc(l.Items, func(p corev1.Pod) bool { return p.UID == pod.UID }) {
				s.Errorf("pod %s is left", pod.Name)
			}
		}
	}
	requests, err := s.requestsOf(s.ctx, pod)
	s.must(err, "listing requests")
	for _, o := range requests {
		if len(o.Status.Certificate) == 0 {
			s.Errorf("request %s is left open: %+v", o.Name, o.Status)
		}
	}
}

// A root was compromised: all that it signed is issued anew at once, and nobody trusts it any more.
func TestACompromisedRootIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer()
	s.policy()
	b := s.trustBundle(o)
	old := s.publishedAnchors(b)
	pod, first := s.agentPod("app")
	seen := s.askAsAdministrator(1, "ca", "rotate", o.Name, "--compromised") // nobody is there to say yes
	s.contains("what is lost", seen.out+seen.err, s.namespace, "--yes")
	s.sameNames("the anchors", s.publishedAnchors(b), old...)

	s.askAsAdministrator(0, "ca", "rotate", o.Name, "--compromised", "--yes")
	var now []string
	s.until("the bundle to be another one", soon, func(ctx context.Context) (err error) {
		if now, err = b.anchors(ctx); err == nil && (len(now) != 1 || now[0] == old[0]) {
			err = fmt.Errorf("it holds %q", now)
		}
		return err
	})
	l := s.viewOf(pod, "a certificate of the new root, and that root alone", func(l look) bool {
		return first.other()(l) && slices.Equal(l.Anchors, now)
	})
	s.until("the Signer to say so", soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if status := o.Status.Backends[0]; status.Root != now[0] || status.Rotation != nil {
			return fmt.Errorf("its backend is %+v, want root %s and no rotation", status, now[0])
		}
		return nil
	})
	requests, err := s.requestsOf(s.ctx, pod)
	s.must(err, "listing requests")
	last := requests[len(requests)-1]
	s.chainsTo(o, &last)
	if leaf, err := leafOf(&last); err != nil || leaf.SerialNumber.Text(16) != l.Certificate.Serial {
		s.Errorf("the pod has certificate %s, and the newest is %v", l.Certificate.Serial, errors.Join(err))
	}
}
