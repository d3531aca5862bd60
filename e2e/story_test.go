// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
)

const (
	mergePatch = types.MergePatchType

	// soon is how long anything may take that needs no pod to start, on a busy machine too.
	soon = time.Minute
	// starting is how long a pod may take to start there.
	starting = 3 * time.Minute
	// renewing is how long it may take until a pod has another certificate that somebody asked for: agents let a minute pass between requests.
	renewing = time.Minute + starting
)

// story is one test on the cluster: a namespace and a signerName of its own, and everything that it made, which is taken
// away when it ends. All that it makes in the cluster's scope begins with its name.
type story struct {
	*testing.T
	ctx        context.Context
	name       string
	namespace  string
	signerName string

	made   []client.Object
	number int
	began  time.Time
	// figures are what was measured, complaints what went wrong; told guards these.
	figures, complaints []string
	ended               bool
}

// tell begins a story.
func tell(t *testing.T) *story {
	t.Helper()
	name := "e2e-" + rand.String(6)
	s := &story{T: t, ctx: context.Background(), name: name, namespace: name, signerName: "certwright.dev/" + name, began: time.Now()}
	t.Cleanup(s.end)
	told.Lock()
	told.stories = append(told.stories, s)
	told.Unlock()
	s.makeNamespace(s.namespace)
	return s
}

// end tells what happened if the story went wrong, and takes away what it made, the newest first.
func (s *story) end() {
	if s.complained() {
		s.dump()
	}
	for _, o := range slices.Backward(s.made) {
		if err := admin.Delete(s.ctx, o, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
			s.Errorf("deleting %T %s: %v", o, o.GetName(), err)
		}
	}
	told.Lock()
	s.ended = true
	told.Unlock()
}

// must ends the test if err is one.
func (s *story) must(err error, doing string, args ...any) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", fmt.Sprintf(doing, args...), err)
	}
}

// until waits until the check has no complaint.
func (s *story) until(what string, limit time.Duration, check func(ctx context.Context) error) {
	s.Helper()
	s.must(poll(s.ctx, limit, check), "waiting for %s", what)
}

// make creates an object that is deleted when the story ends.
func (s *story) make(o client.Object) {
	s.Helper()
	s.must(admin.Create(s.ctx, o), "creating %T %s", o, o.GetName())
	s.made = append(s.made, o)
}

// change changes an object as it is now.
func (s *story) change(o client.Object, change func()) {
	s.Helper()
	s.must(poll(s.ctx, soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change()
		return admin.Update(ctx, o)
	}), "changing %T %s", o, o.GetName())
}

// nextName returns a new name for something in the cluster's scope.
func (s *story) nextName() string {
	s.number++
	return fmt.Sprintf("%s-%d", s.name, s.number)
}

// makeNamespace makes a namespace of the restricted Pod Security Standard.
func (s *story) makeNamespace(name string) {
	s.Helper()
	s.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
	}}})
}

// signer makes a Signer for the story's signerName, with a CA that Certwright makes, and waits until it can sign.
func (s *story) signer(options ...func(*v1alpha1.SignerSpec)) *v1alpha1.Signer {
	s.Helper()
	o := s.signerNotReady(options...)
	s.signerIs(o, metav1.ConditionTrue, "Ready")
	return o
}

// signerNotReady makes a Signer without waiting for it.
func (s *story) signerNotReady(options ...func(*v1alpha1.SignerSpec)) *v1alpha1.Signer {
	s.Helper()
	o := &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
	o.Spec.SignerName = s.signerName
	o.Spec.Backends = []v1alpha1.Backend{{Name: "local", CA: &v1alpha1.CA{Managed: &v1alpha1.ManagedCA{
		CommonName:           "Story " + s.name,
		RootDuration:         metav1.Duration{Duration: 24 * time.Hour},
		IntermediateDuration: metav1.Duration{Duration: 12 * time.Hour},
	}}}}
	o.Spec.Limits.MaxDuration.Duration = time.Hour
	o.Spec.Limits.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}
	for _, option := range options {
		option(&o.Spec)
	}
	for i := range o.Spec.Backends {
		o.Spec.Backends[i].Timeout.Duration = 5 * time.Second
	}
	s.make(o)
	return o
}

// signerIs waits until the Signer's condition Ready says so for its newest generation.
func (s *story) signerIs(o *v1alpha1.Signer, status metav1.ConditionStatus, reason string) {
	s.Helper()
	s.until(fmt.Sprintf("Signer %s to be Ready=%s, %s", o.Name, status, reason), soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		return saysReady(o.Status.Conditions, o.Generation, status, reason)
	})
}

// saysReady checks the condition Ready of one of our kinds.
func saysReady(conditions []metav1.Condition, generation int64, status metav1.ConditionStatus, reason string) error {
	c := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if c == nil || c.ObservedGeneration != generation || c.Status != status || c.Reason != reason {
		return fmt.Errorf("its condition is %+v", c)
	}
	return nil
}

// policy makes a CertificatePolicy for the story's signerName and waits until it is in force. It selects the service
// accounts of the story's namespace and allows what pods ask for by default, unless options say otherwise.
func (s *story) policy(options ...func(*v1alpha1.CertificatePolicySpec)) *v1alpha1.CertificatePolicy {
	s.Helper()
	o := &v1alpha1.CertificatePolicy{ObjectMeta: metav1.ObjectMeta{Name: s.nextName()}}
	o.Spec.SignerNames = []string{s.signerName}
	o.Spec.Requesters.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.namespace}}
	o.Spec.Requesters.ServiceAccounts = []string{"*"}
	o.Spec.Allow.DNSNames = []string{
		"{service}.{namespace}.svc", "{service}.{namespace}.svc.{clusterDomain}",
		"{hostname}.{service}.{namespace}.svc", "{hostname}.{service}.{namespace}.svc.{clusterDomain}",
	}
	o.Spec.Allow.URIs = []string{"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}"}
	o.Spec.Allow.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth}
	for _, option := range options {
		option(&o.Spec)
	}
	s.make(o)
	s.policyIs(o, metav1.ConditionTrue, "InForce")
	return o
}

// policyIs waits until the policy's condition Ready says so for its newest generation.
func (s *story) policyIs(o *v1alpha1.CertificatePolicy, status metav1.ConditionStatus, reason string) {
	s.Helper()
	s.until(fmt.Sprintf("CertificatePolicy %s to be Ready=%s, %s", o.Name, status, reason), soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		return saysReady(o.Status.Conditions, o.Generation, status, reason)
	})
}

// forPeople has a policy select these users, and allow them any common name.
func forPeople(users ...user) func(*v1alpha1.CertificatePolicySpec) {
	return func(p *v1alpha1.CertificatePolicySpec) {
		p.Requesters = v1alpha1.Requesters{}
		for _, u := range users {
			p.Requesters.Users = append(p.Requesters.Users, u.name)
		}
		p.Allow.CommonNames = []string{"*"}
	}
}

// manual has a policy leave the approval to a person.
func manual(p *v1alpha1.CertificatePolicySpec) { p.Approval = v1alpha1.ApprovalManual }

// grant gives a subject rights in the whole cluster for as long as the story lasts.
func (s *story) grant(subject rbacv1.Subject, rules ...rbacv1.PolicyRule) {
	s.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: s.nextName()}, Rules: rules}
	s.make(role)
	s.make(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{subject},
	})
}

// isForbidden checks that the API server refused for want of a right.
func (s *story) isForbidden(err error, doing string) {
	s.Helper()
	if !apierrors.IsForbidden(err) {
		s.Errorf("%s: got %v, want Forbidden", doing, err)
	}
}

// shortLived has a Signer give out certificates of a minute.
func shortLived(spec *v1alpha1.SignerSpec) { spec.Limits.MaxDuration.Duration = time.Minute }

// refresh reads an object again.
func (s *story) refresh(o client.Object) {
	s.Helper()
	s.must(admin.Get(s.ctx, client.ObjectKeyFromObject(o), o), "reading %T %s", o, o.GetName())
}

// contains checks that a text has all these parts.
func (s *story) contains(what, text string, parts ...string) {
	s.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.Errorf("%s is without %q: %s", what, part, text)
		}
	}
}
