// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package approver approves and denies pending CertificateSigningRequests by policy: parse, gather, decide, and one write.
// It never signs, and what it leaves pending it explains in one event.
package approver

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy"
)

// Reasons of conditions and events.
const (
	ReasonPermitted   = "PolicyPermits"
	ReasonDenied      = "PolicyDenies"
	ReasonNoPolicy    = "NoPolicy"
	ReasonManual      = "WaitingForApproval"
	ReasonUndecidable = "PolicyUndecidable"
)

// unselected is how long a request that no policy selects waits before it is looked at again, for changes of labels that
// nothing else would notice. A new policy is noticed at once.
const unselected = 5 * time.Minute

// Judge decides about a parsed request; an error is trouble that passes.
type Judge interface {
	Decide(ctx context.Context, req csr.Request) (policy.Decision, error)
}

// Reconciler approves or denies one CertificateSigningRequest at a time.
type Reconciler struct {
	Client  client.Client
	Judge   Judge
	Teller  event.Teller
	Metrics *Metrics
	Clock   clock.PassiveClock
}

// Reconcile decides about the request unless somebody did before.
func (r *Reconciler) Reconcile(ctx context.Context, object *certificatesv1.CertificateSigningRequest) (ctrl.Result, error) {
	if csr.IsApproved(object) || csr.IsFinished(object) || csr.IsKubernetesSigner(object.Spec.SignerName) {
		return ctrl.Result{}, nil
	}
	ours, err := r.ours(ctx, object.Spec.SignerName)
	if err != nil || !ours {
		return ctrl.Result{}, err
	}
	req, err := csr.Parse(object)
	if refusal := (*csr.Refusal)(nil); errors.As(err, &refusal) {
		return ctrl.Result{}, r.deny(ctx, object, refusal.Reason, refusal.Error())
	} else if err != nil {
		return ctrl.Result{}, err
	}
	decision, err := r.Judge.Decide(ctx, req)
	if err != nil {
		r.Teller.Warn(ctx, object, ReasonUndecidable, fmt.Sprintf("The request stays pending and is tried again: %v.", err))
		return ctrl.Result{}, err
	}
	r.Metrics.decided(object.Spec.SignerName, decision)
	switch {
	case decision.Verdict == policy.Deny:
		return ctrl.Result{}, r.deny(ctx, object, ReasonDenied, decision.Message())
	case decision.Verdict == policy.Permit && decision.Approval == v1alpha1.ApprovalAutomatic:
		return ctrl.Result{}, r.write(ctx, object, certificatesv1.CertificateApproved, ReasonPermitted, decision.Message())
	case decision.Verdict == policy.Permit:
		r.Teller.Inform(ctx, object, ReasonManual, fmt.Sprintf("%s It waits for a person: %s.", decision.Message(), commands(object.Name)))
		return ctrl.Result{}, nil
	default:
		r.Teller.Warn(ctx, object, ReasonNoPolicy, fmt.Sprintf(
			"%s Requester: %q; signerName: %s. The request stays pending until a CertificatePolicy selects it.",
			decision.Message(), object.Spec.Username, object.Spec.SignerName))
		return ctrl.Result{RequeueAfter: unselected}, nil
	}
}

// plainName matches names of requests that mean nothing to a shell and are no flag to kubectl.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)

// commands returns what a person runs to decide about a request. Whoever creates a request gives it almost any name, so one
// that a shell would act on is not put into a command that people copy.
func commands(name string) string {
	if !plainName.MatchString(name) {
		return fmt.Sprintf("kubectl certificate approve NAME, or kubectl certificate deny NAME, where NAME is %q, to be quoted with care", name)
	}
	return fmt.Sprintf("kubectl certificate approve %s, or kubectl certificate deny %s", name, name)
}

// ours reports whether a Signer or a CertificatePolicy names the signerName.
func (r *Reconciler) ours(ctx context.Context, signerName string) (bool, error) {
	byName := client.MatchingFields{v1alpha1.IndexSignerName: signerName}
	var signers v1alpha1.SignerList
	if err := r.Client.List(ctx, &signers, byName, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("listing signers: %w", err)
	}
	var policies v1alpha1.CertificatePolicyList
	if err := r.Client.List(ctx, &policies, byName, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("listing certificate policies: %w", err)
	}
	return len(signers.Items)+len(policies.Items) > 0, nil
}

// deny denies the request and tells why in an event, as kubectl describe shows events but no messages of conditions.
func (r *Reconciler) deny(ctx context.Context, object *certificatesv1.CertificateSigningRequest, reason, message string) error {
	if err := r.write(ctx, object, certificatesv1.CertificateDenied, reason, message); err != nil {
		return err
	}
	r.Teller.Warn(ctx, object, reason, message)
	return nil
}

// write adds a condition. The object's resourceVersion binds the write to the very request that was judged.
func (r *Reconciler) write(ctx context.Context, object *certificatesv1.CertificateSigningRequest, condition certificatesv1.RequestConditionType, reason, message string) error {
	updated := object.DeepCopy()
	csr.SetCondition(updated, condition, reason, message, r.Clock.Now())
	if err := r.Client.SubResource("approval").Update(ctx, updated); err != nil {
		return fmt.Errorf("writing condition %s: %w", condition, err)
	}
	r.Metrics.wrote(object.Spec.SignerName, condition)
	return nil
}
