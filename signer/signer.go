// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package signer signs approved CertificateSigningRequests: parse, gather, decide again, apply the Signer's own limits, ask
// a backend, verify what it returned, and one write. Approval alone is never enough, and trouble is never a verdict: what
// cannot be signed now stays as it is and is tried again.
package signer

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/judge"
)

// Reasons of conditions and events.
const (
	ReasonPolicyDenies  = "PolicyDenies"
	ReasonNoPolicy      = "NoPolicy"
	ReasonLimitExceeded = "SignerLimitExceeded"
	ReasonBackendRefuse = "BackendRefused"
	ReasonNotSignedYet  = "NotSignedYet"
)

// soonest and latest bound when a backend that needs time is asked again, whatever it says. Without the one a request would
// never be asked for again, or without end.
const (
	soonest = time.Second
	latest  = time.Hour
)

// maxMessage bounds the message of a condition in bytes, as the words of a backend may be many.
const maxMessage = 16 << 10

// Judge decides about a parsed request; an error is trouble that passes.
type Judge interface {
	Decide(ctx context.Context, req csr.Request) (policy.Decision, error)
}

// Reconciler signs one approved CertificateSigningRequest at a time.
type Reconciler struct {
	Client   client.Client
	Registry *Registry
	Judge    Judge
	Teller   event.Teller
	Metrics  *Metrics
	Clock    clock.PassiveClock
}

// refusal is a verdict of the signer: the request can never be signed as it is.
type refusal struct{ reason, message string }

func (r *refusal) Error() string { return r.message }

// Reconcile signs the request if it is approved, unfinished and for one of our Signers.
func (r *Reconciler) Reconcile(ctx context.Context, object *certificatesv1.CertificateSigningRequest) (ctrl.Result, error) {
	if !waits(object) || csr.IsKubernetesSigner(object.Spec.SignerName) {
		return ctrl.Result{}, nil
	}
	signer, err := r.Registry.Lookup(ctx, object.Spec.SignerName)
	if err == nil && signer == nil {
		return ctrl.Result{}, nil // not one of ours
	}
	var chain []*x509.Certificate
	if err == nil {
		chain, err = r.sign(ctx, object, signer)
	}
	var refused *refusal
	var pending *PendingError
	switch {
	case errors.As(err, &refused):
		return ctrl.Result{}, r.fail(ctx, object, refused)
	case errors.As(err, &pending):
		return ctrl.Result{RequeueAfter: min(max(pending.After, soonest), latest)}, nil
	case err != nil:
		return r.again(ctx, object, err)
	}
	return ctrl.Result{}, r.issue(ctx, object, chain)
}

// again has a request wait for trouble to pass. What passes by itself within moments is not told.
func (r *Reconciler) again(ctx context.Context, object *certificatesv1.CertificateSigningRequest, trouble error) (ctrl.Result, error) {
	again, tell := judge.Wait(trouble, r.Clock.Since(object.CreationTimestamp.Time))
	if tell {
		r.Teller.Warn(ctx, object, ReasonNotSignedYet, fmt.Sprintf("The request stays approved and is tried again: %v.", trouble))
	}
	if again > 0 {
		return ctrl.Result{RequeueAfter: again}, nil
	}
	return ctrl.Result{}, trouble
}

// sign returns the verified chain for the request. The error is a *refusal, a *PendingError, or trouble.
func (r *Reconciler) sign(ctx context.Context, object *certificatesv1.CertificateSigningRequest, signer *Signer) ([]*x509.Certificate, error) {
	req, err := csr.Parse(object)
	if cannot := (*csr.Refusal)(nil); errors.As(err, &cannot) {
		return nil, &refusal{reason: cannot.Reason, message: cannot.Error()}
	} else if err != nil {
		return nil, err
	}
	decision, err := r.Judge.Decide(ctx, req)
	if err != nil {
		return nil, err
	}
	switch decision.Verdict {
	case policy.Permit:
	case policy.Deny:
		return nil, &refusal{reason: ReasonPolicyDenies, message: "Approved, but not permitted. " + decision.Message()}
	default:
		return nil, &refusal{reason: ReasonNoPolicy, message: "Approved, but not permitted. " + decision.Message()}
	}
	req, exceeded := signer.limits.apply(req, decision.MaxDuration)
	if exceeded != "" {
		return nil, &refusal{reason: ReasonLimitExceeded, message: fmt.Sprintf("Signer %q does not sign this, whoever approves: %s.", signer.name, exceeded)}
	}
	return r.ask(ctx, req, signer)
}

// ask asks the backends in order. The next one is asked when one is in trouble, not when it refuses.
func (r *Reconciler) ask(ctx context.Context, req csr.Request, signer *Signer) ([]*x509.Certificate, error) {
	var troubles []error
	for _, m := range signer.members {
		start := r.Clock.Now()
		chain, err := r.verified(ctx, m, req)
		r.Metrics.called(signer.signerName, m.name, err, r.Clock.Since(start))
		var permanent *PermanentError
		var pending *PendingError
		switch {
		case err == nil:
			return chain, nil
		case errors.As(err, &permanent):
			return nil, &refusal{reason: ReasonBackendRefuse, message: fmt.Sprintf("Backend %q refuses: %v.", m.name, permanent)}
		case errors.As(err, &pending):
			return nil, pending
		}
		troubles = append(troubles, fmt.Errorf("backend %s: %w", m.name, err))
	}
	return nil, errors.Join(troubles...)
}

// verified asks one backend and verifies what it returns.
func (r *Reconciler) verified(ctx context.Context, m *member, req csr.Request) ([]*x509.Certificate, error) {
	release, err := m.use()
	if err != nil {
		return nil, err
	}
	defer release()
	chain, err := m.backend.Sign(ctx, req)
	if err != nil {
		return nil, err
	}
	anchors, err := m.anchors(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading trust anchors: %v", err) //nolint:errorlint // not wrapped: whatever it is, it is no verdict on the request
	}
	verified, err := Verify(chain, anchors, req, r.Clock.Now())
	if err != nil {
		return nil, fmt.Errorf("verifying the returned chain: %w", err)
	}
	return verified, nil
}

// write writes the status, bound by the resourceVersion to the very request that was judged. It is a patch, as an update would
// take from the request the labels and annotations that the cache does not hold: for this kind, the API server does not keep
// those of an update of the status (k8s.io/kubernetes/pkg/registry/certificates/certificates/strategy.go).
func (r *Reconciler) write(ctx context.Context, object, updated *certificatesv1.CertificateSigningRequest) error {
	return r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(object, client.MergeFromWithOptimisticLock{}))
}

// issue writes the certificate.
func (r *Reconciler) issue(ctx context.Context, object *certificatesv1.CertificateSigningRequest, chain []*x509.Certificate) error {
	updated := object.DeepCopy()
	updated.Status.Certificate = nil
	for _, c := range chain {
		updated.Status.Certificate = append(updated.Status.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if err := r.write(ctx, object, updated); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	r.Metrics.issued(object, r.Clock.Now())
	leaf := chain[0]
	logf.FromContext(ctx).Info("issued", "signer", object.Spec.SignerName, "requester", object.Spec.Username,
		"serial", leaf.SerialNumber.Text(16), "notAfter", leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// fail gives the request up and tells why in an event, as kubectl describe shows events but no messages of conditions.
func (r *Reconciler) fail(ctx context.Context, object *certificatesv1.CertificateSigningRequest, refused *refusal) error {
	message := bounded(refused.message)
	updated := object.DeepCopy()
	csr.SetCondition(updated, certificatesv1.CertificateFailed, refused.reason, message, r.Clock.Now())
	if err := r.write(ctx, object, updated); err != nil {
		return fmt.Errorf("writing condition Failed: %w", err)
	}
	r.Metrics.failed(object.Spec.SignerName, refused.reason)
	r.Teller.Warn(ctx, object, refused.reason, message)
	return nil
}

// bounded makes text that a backend may have had a part in fit for a condition.
func bounded(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
