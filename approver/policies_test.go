// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/policy/judge"
)

// broken makes a policy one that cannot be compiled.
func broken(p *v1alpha1.CertificatePolicy) *v1alpha1.CertificatePolicy {
	p.Spec.Allow.DNSNames = []string{"{nonsense}.example.com"}
	return p
}

func (w *world) policies() *PolicyReconciler {
	return &PolicyReconciler{Client: w.Client, Judge: w.Judge.(*judge.Judge), Audits: w.Audits}
}

func (w *world) policy(t *testing.T) *v1alpha1.CertificatePolicy {
	t.Helper()
	var p v1alpha1.CertificatePolicy
	if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "clients"}, &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// change writes a new generation of the policy, as the API server counts it.
func (w *world) change(t *testing.T, p *v1alpha1.CertificatePolicy) {
	t.Helper()
	p.Generation++
	if err := w.Client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.writes = nil
}

func TestPolicyStatus(t *testing.T) {
	w := newWorld(t, newPolicy(v1alpha1.ApprovalAutomatic))
	policies := w.policies()
	reconcile := func(status metav1.ConditionStatus, reason string, texts ...string) {
		t.Helper()
		for range 2 { // the second time nothing has changed, and nothing is written
			if result, err := policies.Reconcile(t.Context(), w.policy(t)); err != nil || !result.IsZero() {
				t.Fatalf("result %v, error %v", result, err)
			}
		}
		if want := []string{"update status clients"}; !slices.Equal(w.writes, want) {
			t.Errorf("writes %q, want %q", w.writes, want)
		}
		p := w.policy(t)
		c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != p.Generation || p.Status.ObservedGeneration != p.Generation {
			t.Fatalf("generation %d: condition %+v, want %s %s", p.Generation, c, status, reason)
		}
		for _, text := range texts {
			if !strings.Contains(c.Message, text) {
				t.Errorf("message %q, want %q in it", c.Message, text)
			}
		}
	}
	reconcile(metav1.ConditionTrue, ReasonInForce, "in force")
	w.change(t, broken(w.policy(t)))
	reconcile(metav1.ConditionFalse, ReasonInvalid, "Generation 1 stays in force", "spec.allow.dnsNames[0]", "{nonsense}")
	mended := w.policy(t)
	mended.Spec.Allow.DNSNames = []string{"*.example.com"}
	w.change(t, mended)
	reconcile(metav1.ConditionTrue, ReasonInForce)
}

func TestPolicyThatWasNeverGoodIsNotUsed(t *testing.T) {
	w := newWorld(t, broken(newPolicy(v1alpha1.ApprovalAutomatic)), request(t, "web", "a.example.com"))
	policies := w.policies()
	if _, err := policies.Reconcile(t.Context(), w.policy(t)); err != nil {
		t.Fatal(err)
	}
	c := meta.FindStatusCondition(w.policy(t).Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != ReasonInvalid || !strings.HasPrefix(c.Message, "The policy is not used until it is mended, ") {
		t.Errorf("condition %+v", c)
	}
	w.writes = nil
	if _, err := w.reconcile(t, "web"); err == nil || !strings.Contains(err.Error(), "clients") {
		t.Errorf("error %v, want one that names the broken policy", err)
	}
	if want := []string{"create Event"}; !slices.Equal(w.writes, want) {
		t.Errorf("writes %q, want %q: a broken policy refuses nobody", w.writes, want)
	}
}

func TestLastGoodPolicyStillApproves(t *testing.T) {
	w := newWorld(t, newPolicy(v1alpha1.ApprovalAutomatic), request(t, "web", "a.example.com"))
	w.Judge.(*judge.Judge).Compile(w.policy(t))
	w.change(t, broken(w.policy(t)))
	if _, err := w.reconcile(t, "web"); err != nil {
		t.Fatal(err)
	}
	if c := only(t, w.stored(t, "web")); c.Type != certificatesv1.CertificateApproved {
		t.Errorf("condition %+v, want Approved", c)
	}
}

// A cache that lags behind shows a generation that is older than what another look at the API server has compiled.
func TestPolicyOfAStaleCacheIsNotReported(t *testing.T) {
	w := newWorld(t, newPolicy(v1alpha1.ApprovalAutomatic))
	stale := w.policy(t)
	newer := broken(w.policy(t))
	newer.Generation++
	w.Judge.(*judge.Judge).Compile(newer)
	policies := w.policies()
	if _, err := policies.Reconcile(t.Context(), stale); err != nil || len(w.writes) > 0 {
		t.Errorf("writes %q, error %v, want none", w.writes, err)
	}
}

func TestPolicyStatusTroubleIsReturned(t *testing.T) {
	w := newWorld(t, newPolicy(v1alpha1.ApprovalAutomatic))
	down := errors.New("connection refused")
	w.tamper = func(string, client.Object) error { return down }
	policies := w.policies()
	if _, err := policies.Reconcile(t.Context(), w.policy(t)); !errors.Is(err, down) || !strings.Contains(err.Error(), "clients") {
		t.Errorf("error %v, want %v with the policy's name", err, down)
	}
}

// The API server takes at most 32768 characters in a condition's message.
func TestPolicyMessageIsBounded(t *testing.T) {
	p := newPolicy(v1alpha1.ApprovalAutomatic)
	p.Spec.Allow.DNSNames = nil
	for i := range 256 {
		p.Spec.Allow.DNSNames = append(p.Spec.Allow.DNSNames, fmt.Sprintf("{é%d%s}", i, strings.Repeat("é", 200)))
	}
	w := newWorld(t)
	c := ready(w.Judge.(*judge.Judge).Compile(p), p.Spec.Mode)
	if len(c.Message) > 32768 || len(c.Message) < excerpt.MaxCondition/2 || !utf8.ValidString(c.Message) {
		t.Errorf("message of %d bytes, valid UTF-8 %t", len(c.Message), utf8.ValidString(c.Message))
	}
}

func TestBrokenPolicyInModeAuditSaysThatNobodyWaits(t *testing.T) {
	c := ready(judge.Compiled{Generation: 1, Err: errors.New("spec.mode: wrong")}, v1alpha1.ModeAudit)
	if c.Status != metav1.ConditionFalse || c.Reason != ReasonInvalid || !strings.Contains(c.Message, "delays nobody") {
		t.Errorf("got %+v", c)
	}
}
