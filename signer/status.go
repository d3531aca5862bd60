// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Reasons of a Signer's condition Ready, besides those that backends give in a CheckError.
const (
	ReasonReady              = "Ready"
	ReasonSignerNameTaken    = "SignerNameTaken"
	ReasonSignerNameReserved = "SignerNameReserved"
	ReasonLimitsInvalid      = "LimitsInvalid"
	ReasonBackendInvalid     = "BackendInvalid"
	ReasonBackendNotReady    = "BackendNotReady"
	ReasonTrustNotPublished  = "TrustBundleNotPublished"
)

// recheck is how often a Signer's backends are checked when nothing changes.
const recheck = time.Minute

// Publisher publishes the trust anchors of a signerName for those who verify its certificates.
type Publisher interface {
	// Publish makes anchors the trust bundle of signerName, and returns the name it has in the cluster.
	Publish(ctx context.Context, signerName string, anchors []*x509.Certificate) (where string, err error)
	// Withdraw removes the trust bundle of a signerName that no Signer has any more.
	Withdraw(ctx context.Context, signerName string) error
}

// StatusReconciler checks the backends of each Signer, publishes its trust anchors, and says in its status whether it can
// sign.
type StatusReconciler struct {
	Client    client.Client
	Registry  *Registry
	Publisher Publisher
	Metrics   *Metrics
}

// Reconcile checks one Signer and writes its status if that changes.
func (r *StatusReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var object v1alpha1.Signer
	if err := r.Client.Get(ctx, request.NamespacedName, &object); apierrors.IsNotFound(err) {
		return ctrl.Result{}, r.withdraw(ctx, request.Name, "")
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading Signer %s: %w", request.Name, err)
	}
	if err := r.withdraw(ctx, object.Name, object.UID); err != nil {
		return ctrl.Result{}, err
	}
	updated := object.DeepCopy()
	updated.Status.ObservedGeneration = object.Generation
	trouble := r.check(ctx, updated)
	meta.SetStatusCondition(&updated.Status.Conditions, readyCondition(updated, trouble))
	if !equality.Semantic.DeepEqual(object.Status, updated.Status) {
		if err := r.Client.Status().Update(ctx, updated); err != nil {
			return ctrl.Result{}, fmt.Errorf("writing the status of Signer %s: %w", object.Name, err)
		}
	}
	if trouble != nil {
		return ctrl.Result{}, trouble
	}
	return ctrl.Result{RequeueAfter: recheck}, nil
}

// check checks all backends, publishes the trust anchors and fills in the status but for its condition.
func (r *StatusReconciler) check(ctx context.Context, object *v1alpha1.Signer) error {
	owner, err := r.Registry.owner(ctx, object.Spec.SignerName)
	if err != nil {
		return err
	}
	if owner != nil && owner.UID != object.UID {
		return &CheckError{Reason: ReasonSignerNameTaken, Err: fmt.Errorf("signerName %s belongs to Signer %q, which is older: delete one of them", object.Spec.SignerName, owner.Name)}
	}
	signer, err := r.Registry.load(object)
	if err != nil {
		return err
	}
	var troubles []error
	object.Status.CANotAfter = nil
	for _, b := range signer.backends {
		if err := inspect(ctx, b, &object.Status); err != nil {
			troubles = append(troubles, fmt.Errorf("backend %s: %w", b.name, err))
		}
	}
	if object.Status.CANotAfter != nil {
		r.Metrics.caExpires(signer.signerName, object.Status.CANotAfter.Time)
	}
	if err := r.publish(ctx, signer, &object.Status); err != nil && len(troubles) == 0 {
		troubles = append(troubles, err)
	}
	return errors.Join(troubles...)
}

// inspect asks one backend whether it can sign and until when.
func inspect(ctx context.Context, b namedBackend, status *v1alpha1.SignerStatus) error {
	if e, ok := b.Backend.(Expirer); ok {
		if notAfter, err := e.NotAfter(ctx); err == nil && (status.CANotAfter == nil || notAfter.Before(status.CANotAfter.Time)) {
			status.CANotAfter = &metav1.Time{Time: notAfter.Truncate(time.Second)} // as precise as the API keeps it
		}
	}
	if c, ok := b.Backend.(Checker); ok {
		return c.Check(ctx)
	}
	return nil
}

// publish publishes the trust anchors of all backends. While one of them does not know its own, nothing changes: a bundle
// without them would break those who verify what that backend signed.
func (r *StatusReconciler) publish(ctx context.Context, signer *Signer, status *v1alpha1.SignerStatus) error {
	var anchors []*x509.Certificate
	for _, b := range signer.backends {
		a, ok := b.Backend.(TrustAnchorer)
		if !ok {
			return nil
		}
		found, err := a.TrustAnchors(ctx)
		if err != nil {
			return fmt.Errorf("backend %s: reading trust anchors: %w", b.name, err)
		}
		anchors = append(anchors, found...)
	}
	if len(anchors) == 0 {
		return nil
	}
	where, err := r.Publisher.Publish(ctx, signer.signerName, anchors)
	if err != nil {
		return &CheckError{Reason: ReasonTrustNotPublished, Err: fmt.Errorf("publishing the trust bundle: %w", err)}
	}
	status.TrustBundle = where
	return nil
}

// withdraw withdraws the trust bundles of Signers that had this name and are gone, unless another one has their signerName.
// They are forgotten only then, so that what fails is tried again.
func (r *StatusReconciler) withdraw(ctx context.Context, name string, now types.UID) error {
	for uid, signerName := range r.Registry.former(name, now) {
		owner, err := r.Registry.owner(ctx, signerName)
		if err != nil {
			return err
		}
		if owner == nil {
			if err := r.Publisher.Withdraw(ctx, signerName); err != nil {
				return fmt.Errorf("withdrawing the trust bundle of %s: %w", signerName, err)
			}
			r.Metrics.forget(signerName)
		}
		r.Registry.forget(uid)
	}
	return nil
}

// readyCondition turns what is wrong with a Signer into its condition.
func readyCondition(object *v1alpha1.Signer, trouble error) metav1.Condition {
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: object.Generation,
		Reason: ReasonReady, Message: "All backends can sign.",
	}
	if trouble == nil {
		return condition
	}
	condition.Status, condition.Reason = metav1.ConditionFalse, ReasonBackendNotReady
	condition.Message = bounded(fmt.Sprintf("Something needs attention: %v.", trouble))
	if check := (*CheckError)(nil); errors.As(trouble, &check) {
		condition.Reason = check.Reason
	}
	return condition
}
