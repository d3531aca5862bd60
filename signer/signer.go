// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package signer signs approved CertificateSigningRequests: parse, gather, decide again, apply the Signer's own limits, ask
// a backend, verify what it returned, and one write. Approval alone is never enough, and trouble is never a verdict: what
// cannot be signed now stays as it is and is tried again.
package signer

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/excerpt"
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

// moments is how long a request may wait without anybody being told, for what is about to pass or to be done.
const moments = time.Minute

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
	var issued issuance
	if err == nil {
		issued, err = r.sign(ctx, object, signer)
	}
	var refused *refusal
	var pending *PendingError
	var later *laterError
	switch {
	case errors.As(err, &refused):
		return ctrl.Result{}, r.fail(ctx, object, refused)
	case errors.As(err, &pending):
		if r.age(object) > moments {
			r.tell(ctx, object, "The request stays approved and waits for its backend: "+excerpt.Of(pending.Reason, maxMessage)+".")
		}
		return ctrl.Result{RequeueAfter: min(max(pending.After, soonest), latest)}, nil
	case errors.As(err, &later):
		if !later.quiet || r.age(object) > moments {
			r.tell(ctx, object, fmt.Sprintf("The request stays approved and is tried again: %v.", err))
		}
		return ctrl.Result{RequeueAfter: later.after}, nil
	case err != nil:
		return r.again(ctx, object, err)
	}
	return ctrl.Result{}, r.issue(ctx, object, issued)
}

func (r *Reconciler) age(object *certificatesv1.CertificateSigningRequest) time.Duration {
	return r.Clock.Since(object.CreationTimestamp.Time)
}

// tell tells in an event why a request is not signed yet, once.
func (r *Reconciler) tell(ctx context.Context, object *certificatesv1.CertificateSigningRequest, note string) {
	if r.Registry.memory.tell(object.UID) {
		r.Teller.Warn(ctx, object, ReasonNotSignedYet, note)
	}
}

// again has a request wait for trouble to pass. What passes by itself within moments is not told.
func (r *Reconciler) again(ctx context.Context, object *certificatesv1.CertificateSigningRequest, trouble error) (ctrl.Result, error) {
	again, tell := judge.Wait(trouble, r.age(object))
	if tell {
		r.tell(ctx, object, fmt.Sprintf("The request stays approved and is tried again: %v.", trouble))
	}
	if again > 0 {
		return ctrl.Result{RequeueAfter: again}, nil
	}
	return ctrl.Result{}, trouble
}

// sign returns what is to be written for the request. The error is a *refusal, a *PendingError, a *laterError, or trouble.
func (r *Reconciler) sign(ctx context.Context, object *certificatesv1.CertificateSigningRequest, signer *Signer) (issued issuance, err error) {
	req, err := csr.Parse(object)
	if cannot := (*csr.Refusal)(nil); errors.As(err, &cannot) {
		return issued, &refusal{reason: cannot.Reason, message: cannot.Error()}
	} else if err != nil {
		return issued, err
	}
	decision, err := r.Judge.Decide(ctx, req)
	if err != nil {
		return issued, err
	}
	switch decision.Verdict {
	case policy.Permit:
	case policy.Deny:
		return issued, &refusal{reason: ReasonPolicyDenies, message: "Approved, but not permitted. " + decision.Message()}
	default:
		return issued, &refusal{reason: ReasonNoPolicy, message: "Approved, but not permitted. " + decision.Message()}
	}
	req, exceeded := signer.limits.apply(req, decision.MaxDuration)
	if exceeded != "" {
		return issued, &refusal{reason: ReasonLimitExceeded, message: fmt.Sprintf("Signer %q does not sign this, whoever approves: %s.", signer.name, exceeded)}
	}
	return r.ask(ctx, req, signer)
}

// write writes the status, bound by the resourceVersion to the very request that was judged. It is a patch, as an update would
// take from the request the labels and annotations that the cache does not hold: for this kind, the API server does not keep
// those of an update of the status (k8s.io/kubernetes/pkg/registry/certificates/certificates/strategy.go).
func (r *Reconciler) write(ctx context.Context, object, updated *certificatesv1.CertificateSigningRequest) error {
	return r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(object, client.MergeFromWithOptimisticLock{}))
}

// issue writes the certificate, and when it should be renewed if the backend says so.
func (r *Reconciler) issue(ctx context.Context, object *certificatesv1.CertificateSigningRequest, issued issuance) error {
	updated := object.DeepCopy()
	updated.Status.Certificate = nil
	for _, c := range issued.chain {
		updated.Status.Certificate = append(updated.Status.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if !issued.renewAt.IsZero() {
		metav1.SetMetaDataAnnotation(&updated.ObjectMeta, v1alpha1.AnnotationRenewAt, issued.renewAt.UTC().Format(time.RFC3339))
	}
	if err := r.write(ctx, object, updated); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	r.Registry.memory.written(object.UID)
	r.Metrics.issued(object, r.Clock.Now())
	leaf := issued.chain[0]
	logf.FromContext(ctx).Info("issued", "signer", object.Spec.SignerName, "requester", object.Spec.Username,
		"serial", leaf.SerialNumber.Text(16), "notAfter", leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// fail gives the request up and tells why in an event, as kubectl describe shows events but no messages of conditions.
func (r *Reconciler) fail(ctx context.Context, object *certificatesv1.CertificateSigningRequest, refused *refusal) error {
	message := excerpt.Of(refused.message, maxMessage)
	updated := object.DeepCopy()
	csr.SetCondition(updated, certificatesv1.CertificateFailed, refused.reason, message, r.Clock.Now())
	if err := r.write(ctx, object, updated); err != nil {
		return fmt.Errorf("writing condition Failed: %w", err)
	}
	r.Registry.memory.forget(object.UID)
	r.Metrics.failed(object.Spec.SignerName, refused.reason)
	r.Teller.Warn(ctx, object, refused.reason, message)
	return nil
}
