// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package approver approves and denies pending CertificateSigningRequests by policy: parse, gather, decide, and one write.
// It never signs, and what it leaves pending it explains in one event.
package approver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
	"github.com/certwright/certwright/policy/quota"
)

// Reasons of conditions and events.
const (
	ReasonPermitted   = "PolicyPermits"
	ReasonDenied      = "PolicyDenies"
	ReasonNoPolicy    = "NoPolicy"
	ReasonManual      = "WaitingForApproval"
	ReasonQuota       = "QuotaExceeded"
	ReasonAuditDenies = "AuditDenies"
	ReasonUndecidable = "PolicyUndecidable"
)

// remembered bounds what is kept in memory about requests that were looked at before. What is forgotten costs reads.
const remembered = 1 << 16

// Judge decides about a parsed request; an error is trouble that passes. Reconsider is for one that no policy selected when
// Decide was asked before.
type Judge interface {
	Decide(ctx context.Context, req csr.Request) (policy.Decision, error)
	Reconsider(ctx context.Context, req csr.Request) (policy.Decision, error)
}

// Config is what an approver is made of.
type Config struct {
	// Client writes, and reads from a cache.
	Client client.Client
	// Live reads from the API server.
	Live    client.Reader
	Judge   Judge
	Audits  *Audits
	Teller  event.Teller
	Metrics *Metrics
	Clock   clock.PassiveClock
}

// Reconciler approves or denies one CertificateSigningRequest at a time.
type Reconciler struct {
	Config
	quotas *quota.Limiter
	// unselected holds the UIDs of requests that no policy selected. reviewed holds the UIDs of those that say what a person has
	// to decide, and their resourceVersion: who changes one may want people to read something else.
	unselected, reviewed *lru.Cache
}

// New returns an approver.
func New(c Config) *Reconciler {
	return &Reconciler{Config: c, quotas: quota.New(c.Clock, ledger{c.Client}), unselected: lru.New(remembered), reviewed: lru.New(remembered)}
}

// Reconcile decides about the request unless somebody did before.
func (r *Reconciler) Reconcile(ctx context.Context, object *certificatesv1.CertificateSigningRequest) (ctrl.Result, error) {
	if !csr.IsUndecided(object) || csr.IsKubernetesSigner(object.Spec.SignerName) {
		return ctrl.Result{}, nil
	}
	ours, watched, err := r.ours(ctx, object.Spec.SignerName)
	if err != nil || !ours && !watched {
		return ctrl.Result{}, err
	}
	req, err := csr.Parse(object)
	if refusal := (*csr.Refusal)(nil); errors.As(err, &refusal) && !ours {
		return ctrl.Result{}, nil // another approver may know what it is
	} else if refusal != nil {
		return ctrl.Result{}, r.deny(ctx, object, refusal.Reason, refusal.Error())
	} else if err != nil {
		return ctrl.Result{}, err
	}
	decision, err := r.decide(ctx, req)
	if err != nil {
		return r.undecidable(ctx, object, err)
	}
	r.Metrics.decided(object.Spec.SignerName, decision)
	r.report(ctx, object, decision.Audits)
	switch {
	case decision.Verdict == policy.Deny:
		return ctrl.Result{}, r.deny(ctx, object, ReasonDenied, decision.Message())
	case decision.Verdict == policy.Permit && decision.Approval == v1alpha1.ApprovalAutomatic:
		return r.approve(ctx, object, req, decision)
	case decision.Verdict == policy.Permit:
		return r.present(ctx, object, req, decision)
	case !ours:
		return ctrl.Result{}, nil
	default:
		r.Teller.Warn(ctx, object, ReasonNoPolicy, fmt.Sprintf(
			"%s Requester: %q; signerName: %s. The request stays pending until a CertificatePolicy selects it.",
			decision.Message(), object.Spec.Username, object.Spec.SignerName))
		return ctrl.Result{RequeueAfter: r.rarer(object, unselectedAgain, time.Hour)}, nil
	}
}

// unselectedAgain is how long a request that no policy selects waits at first before it is looked at again, for changes of
// labels that nothing else would notice. A new policy is noticed at once.
const unselectedAgain = 5 * time.Minute

// decide asks the judge. A request that no policy selects is looked up in the API server once, not each time.
func (r *Reconciler) decide(ctx context.Context, req csr.Request) (policy.Decision, error) {
	ask := r.Judge.Decide
	if _, known := r.unselected.Get(req.UID); known {
		ask = r.Judge.Reconsider
	}
	decision, err := ask(ctx, req)
	if err == nil && decision.Verdict == policy.NoOpinion {
		r.unselected.Add(req.UID, nil)
	}
	return decision, err
}

// undecidable has a request wait for trouble to pass. What passes by itself within moments is not told.
func (r *Reconciler) undecidable(ctx context.Context, object *certificatesv1.CertificateSigningRequest, err error) (ctrl.Result, error) {
	again, tell := judge.Wait(err, r.age(object))
	if note := fmt.Sprintf("The request stays pending and is tried again: %v.", err); tell && errors.As(err, new(*judge.WaitError)) {
		r.Teller.Warn(ctx, object, ReasonUndecidable, note)
	} else if tell {
		r.Teller.Trouble(ctx, object, ReasonUndecidable, note)
	}
	if again > 0 {
		return ctrl.Result{RequeueAfter: again}, nil
	}
	return ctrl.Result{}, err
}

// rarer returns when to look again at a request: the older it is, the more rarely, within these bounds.
func (r *Reconciler) rarer(object *certificatesv1.CertificateSigningRequest, soonest, latest time.Duration) time.Duration {
	return max(soonest, min(r.age(object)/2, latest))
}

func (r *Reconciler) age(object *certificatesv1.CertificateSigningRequest) time.Duration {
	if object.CreationTimestamp.IsZero() {
		return 0
	}
	return r.Clock.Since(object.CreationTimestamp.Time)
}

// ours reports whether a Signer or a CertificatePolicy names the signerName. What only policies in mode Audit name is watched:
// it is no more for this approver to decide about than it was before.
func (r *Reconciler) ours(ctx context.Context, signerName string) (ours, watched bool, err error) {
	byName := client.MatchingFields{v1alpha1.IndexSignerName: signerName}
	var signers v1alpha1.SignerList
	if err := r.Client.List(ctx, &signers, byName, client.UnsafeDisableDeepCopy); err != nil {
		return false, false, fmt.Errorf("listing signers: %w", err)
	}
	var policies v1alpha1.CertificatePolicyList
	if err := r.Client.List(ctx, &policies, byName, client.UnsafeDisableDeepCopy); err != nil {
		return false, false, fmt.Errorf("listing certificate policies: %w", err)
	}
	enforced := slices.ContainsFunc(policies.Items, func(p v1alpha1.CertificatePolicy) bool { return p.Spec.Mode != v1alpha1.ModeAudit })
	return len(signers.Items) > 0 || enforced, len(policies.Items) > 0, nil
}
