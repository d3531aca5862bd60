// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package issue signs approved CertificateSigningRequests: parse, gather, decide again, apply the Signer's own limits, ask its backends in
// order, verify what they return, and one write. From the limits on, that is Core, which other kinds of requests share. Approval alone is
// never enough, and trouble is never a verdict: what cannot be signed now stays as it is and is tried again.
package issue

import (
	"context"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/event"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/registry"
)

// Reasons of conditions and events.
const (
	ReasonPolicyDenies  = "PolicyDenies"
	ReasonNoPolicy      = "NoPolicy"
	ReasonLimitExceeded = "SignerLimitExceeded"
	ReasonBackendRefuse = "BackendRefused"
	ReasonNotSignedYet  = "NotSignedYet"
)

// Judge decides about a parsed request; an error is trouble that passes.
type Judge interface {
	Decide(ctx context.Context, req csr.Request) (policy.Decision, error)
}

// Reconciler signs one approved CertificateSigningRequest at a time.
type Reconciler struct {
	*Core
	Client client.Client
	Judge  Judge
	Teller event.Teller
}

// Reconcile signs the request if it is approved, unfinished and for one of our Signers.
func (r *Reconciler) Reconcile(ctx context.Context, object *certificatesv1.CertificateSigningRequest) (ctrl.Result, error) {
	if !waits(object) || csr.IsKubernetesSigner(object.Spec.SignerName) {
		return ctrl.Result{}, nil
	}
	s, err := r.Registry.Lookup(ctx, object.Spec.SignerName)
	if err == nil && s == nil {
		return ctrl.Result{}, nil // not one of ours
	}
	var issued Issued
	if err == nil {
		issued, err = r.sign(ctx, object, s)
	}
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		return ctrl.Result{}, r.fail(ctx, object, refused)
	case err != nil:
		return r.Later(object.UID, object.CreationTimestamp.Time, err, func(why string) {
			r.Teller.Trouble(ctx, object, ReasonNotSignedYet, "The request stays approved and "+why)
		})
	}
	return ctrl.Result{}, r.issue(ctx, object, issued)
}

// sign returns what is to be written for the request. The error is a *Refusal, or trouble.
func (r *Reconciler) sign(ctx context.Context, object *certificatesv1.CertificateSigningRequest, s *registry.Signer) (issued Issued, err error) {
	req, err := csr.Parse(object)
	if cannot := (*csr.Refusal)(nil); errors.As(err, &cannot) {
		return issued, &Refusal{Reason: cannot.Reason, Message: cannot.Error()}
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
		return issued, &Refusal{Reason: ReasonPolicyDenies, Message: "Approved, but not permitted. " + decision.Message()}
	default:
		return issued, &Refusal{Reason: ReasonNoPolicy, Message: "Approved, but not permitted. " + decision.Message()}
	}
	return r.Sign(ctx, req, decision.MaxDuration, s)
}

// write writes the status, bound by the resourceVersion to the very request that was judged. It is a patch, as an update would
// take from the request the labels and annotations that the cache does not hold: for this kind, the API server does not keep
// those of an update of the status (k8s.io/kubernetes/pkg/registry/certificates/certificates/strategy.go).
func (r *Reconciler) write(ctx context.Context, object, updated *certificatesv1.CertificateSigningRequest) error {
	return r.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(object, client.MergeFromWithOptimisticLock{}))
}

// issue writes the certificate, and when it should be renewed if the backend says so.
func (r *Reconciler) issue(ctx context.Context, object *certificatesv1.CertificateSigningRequest, issued Issued) error {
	updated := object.DeepCopy()
	updated.Status.Certificate = signer.EncodePEM(issued.Chain...)
	if !issued.RenewAt.IsZero() {
		metav1.SetMetaDataAnnotation(&updated.ObjectMeta, v1alpha1.AnnotationRenewAt, issued.RenewAt.UTC().Format(time.RFC3339))
	}
	if err := r.write(ctx, object, updated); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	r.Written(object.UID, object.Spec.SignerName, object.CreationTimestamp.Time)
	leaf := issued.Chain[0]
	logf.FromContext(ctx).Info("issued", "signer", object.Spec.SignerName, "requester", object.Spec.Username,
		"serial", leaf.SerialNumber.Text(16), "notAfter", leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// fail gives the request up and tells why in an event, as kubectl describe shows events but no messages of conditions.
func (r *Reconciler) fail(ctx context.Context, object *certificatesv1.CertificateSigningRequest, refused *Refusal) error {
	message := refused.Text()
	updated := object.DeepCopy()
	csr.SetCondition(updated, certificatesv1.CertificateFailed, refused.Reason, message, r.Clock.Now())
	if err := r.write(ctx, object, updated); err != nil {
		return fmt.Errorf("writing condition Failed: %w", err)
	}
	r.GivenUp(object.UID, object.Spec.SignerName, refused)
	r.Teller.Warn(ctx, object, refused.Reason, message)
	return nil
}
