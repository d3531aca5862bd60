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

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// All of these are dry runs: the API server asks its admission policies, and keeps nothing.

// refusedBy checks that one of our admission policies refused, and not a missing right, with a message of these parts.
func (s *story) refusedBy(policy string, err error, doing string, parts ...string) {
	s.Helper()
	if err == nil {
		s.Errorf("%s: admitted, want a refusal by %s", doing, policy)
		return
	}
	s.contains("the refusal of "+doing, err.Error(), append(parts, "ValidatingAdmissionPolicy '"+policy+"'")...)
}

// almighty is somebody with every right and this name, so that what is refused is not refused for want of a right.
func (s *story) almighty(name string) user {
	s.Helper()
	return s.impersonate(rest.ImpersonationConfig{UserName: name, Groups: []string{"system:masters", "system:authenticated"}})
}

func (s *story) almightyComponent(name string) user {
	s.Helper()
	return s.almighty("system:serviceaccount:" + systemNamespace + ":" + name)
}

// What our admission policies say makes sense for every kind of object that they see.
func TestAdmissionPoliciesFitTheKindsThatTheySee(t *testing.T) {
	t.Parallel()
	s := tell(t)
	for _, name := range []string{"kubernetes-signers", "request-size", "request-metadata", "request-writes", "request-review", "pods", "signer-writes", "signer-routes", "webhook-writes", "pod-certificate-requests", "events", "trust-configmaps"} {
		policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
		policy.Name = "certwright-" + name
		s.until("the API server to check "+policy.Name, soon, func(ctx context.Context) error {
			if err := admin.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
				return err
			}
			if policy.Status.ObservedGeneration != policy.Generation {
				return errors.New("it has not")
			}
			return nil
		})
		if policy.Status.TypeChecking == nil {
			continue // there were warnings about an earlier generation, and are none now
		}
		for _, w := range policy.Status.TypeChecking.ExpressionWarnings {
			s.Errorf("%s: %s: %s", policy.Name, w.FieldRef, w.Warning)
		}
	}
}

// A request of any size that Certwright reads is admitted, and none that is far beyond.
func TestRequestsAreOfBoundedSize(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.makeServiceAccounts("app")
	person := s.almighty(s.name + "-person")
	app := s.almighty("system:serviceaccount:" + s.namespace + ":app")
	const ours, another, clusters = "certwright.dev/e2e", "example.org/e2e", "kubernetes.io/kube-apiserver-client"
	for _, c := range []struct {
		as     user
		signer string
		bytes  int
		may    bool
	}{
		{person, ours, 16384, true},
		{person, ours, 24575, true},
		{person, ours, 24576, true},
		{person, ours, 24577, false},
		{person, ours, 24578, false},
		{person, ours, 1 << 20, false},
		{person, another, 24576, true},
		{person, another, 24577, false},
		{person, clusters, 24577, true}, // between people and Kubernetes
		{app, ours, 24576, true},
		{app, ours, 24577, false},
		{app, clusters, 24576, true},
		{app, clusters, 24577, false},
	} {
		o, err := s.newRequest(signerName(c.signer))
		s.must(err, "making a request")
		o.Spec.Request = append(o.Spec.Request, strings.Repeat("\n", c.bytes-len(o.Spec.Request))...)
		err = c.as.Create(s.ctx, o, client.DryRunAll)
		doing := fmt.Sprintf("asking %s for %d bytes as %s", c.signer, c.bytes, c.as.name)
		if c.may {
			s.must(err, "%s", doing)
			continue
		}
		s.refusedBy("certwright-request-size", err, doing, fmt.Sprintf("spec.request: %d bytes", c.bytes), "at most 24576")
		if !apierrors.IsRequestEntityTooLargeError(err) {
			s.Errorf("%s: got %v, want RequestEntityTooLarge", doing, err)
		}
	}
}

// No service account makes a request large, or immortal, by what stands beside it.
func TestRequestsCarryNoLoad(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.makeServiceAccounts("app")
	app, person := s.serviceAccount(s.namespace, "app"), s.almighty(s.name+"-person")
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("k%d", i)] = ""
		}
		return m
	}
	owners := func(n int) (refs []metav1.OwnerReference) {
		for i := range n {
			refs = append(refs, metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: fmt.Sprint(i), UID: "x"})
		}
		return refs
	}
	for _, c := range []struct {
		name    string
		meta    metav1.ObjectMeta
		refusal string // empty: admitted
	}{
		{"nothing", metav1.ObjectMeta{}, ""},
		{"16384 bytes", metav1.ObjectMeta{Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": strings.Repeat("x", 16381)}}, ""},
		{"16385 bytes", metav1.ObjectMeta{Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": strings.Repeat("x", 16382)}}, "16385 bytes"},
		{"16386 bytes in 5463 letters", metav1.ObjectMeta{Annotations: map[string]string{"a": "x" + strings.Repeat("€", 5461) + "y"}}, "16386 bytes"},
		{"256 of them", metav1.ObjectMeta{Labels: many(100), Annotations: many(156)}, ""},
		{"257 of them", metav1.ObjectMeta{Labels: many(101), Annotations: many(156)}, "257 labels and annotations"},
		{"five thousand labels", metav1.ObjectMeta{Labels: many(5_000)}, "5000 labels and annotations"},
		{"8 owners", metav1.ObjectMeta{OwnerReferences: owners(8)}, ""},
		{"9 owners", metav1.ObjectMeta{OwnerReferences: owners(9)}, "metadata.ownerReferences"},
		{"a finalizer", metav1.ObjectMeta{Finalizers: []string{"example.com/forever"}}, "metadata.finalizers"},
	} {
		create := func(as user) error {
			o, err := s.newRequest()
			s.must(err, "making a request")
			o.Labels, o.Annotations, o.OwnerReferences, o.Finalizers = c.meta.Labels, c.meta.Annotations, c.meta.OwnerReferences, c.meta.Finalizers
			return as.Create(s.ctx, o, client.DryRunAll)
		}
		s.must(create(person), "%s, as a person", c.name)
		if err := create(app); c.refusal == "" {
			s.must(err, "%s, as a service account", c.name)
		} else {
			s.refusedBy("certwright-request-metadata", err, c.name, c.refusal, "service accounts")
		}
	}
}
