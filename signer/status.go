// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
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
	// Publish makes anchors the trust bundle of the Signer's signerName, and returns the name it has in the cluster. Should the
	// Signer be deleted while nobody is there to withdraw the bundle, that goes with it.
	Publish(ctx context.Context, signer *v1alpha1.Signer, anchors []*x509.Certificate) (where string, err error)
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
	before := object.Status.Backends
	object.Status.Backends, object.Status.CANotAfter = nil, nil
	for _, m := range signer.members {
		known, err := inspect(ctx, m, before)
		if err != nil {
			troubles = append(troubles, fmt.Errorf("backend %s: %w", m.name, err))
		}
		if known == nil {
			continue
		}
		object.Status.Backends = append(object.Status.Backends, *known)
		if first := object.Status.CANotAfter; first == nil || known.CANotAfter.Before(first) {
			object.Status.CANotAfter = known.CANotAfter.DeepCopy()
		}
	}
	if object.Status.CANotAfter != nil {
		r.Metrics.caExpires(signer.signerName, object.Status.CANotAfter.Time)
	}
	if err := r.publish(ctx, signer, object); err != nil && len(troubles) == 0 {
		troubles = append(troubles, err)
	}
	return errors.Join(troubles...)
}

// inspect asks one backend whether it can sign, with which root and until when. While it does not know that, it is what it
// was before; nil if there was nothing.
func inspect(ctx context.Context, m *member, before []v1alpha1.BackendStatus) (known *v1alpha1.BackendStatus, err error) {
	if i := slices.IndexFunc(before, func(s v1alpha1.BackendStatus) bool { return s.Name == m.name }); i >= 0 {
		known = before[i].DeepCopy()
	}
	if expirer, expires := m.backend.(Expirer); expires {
		anchors, anchorsErr := m.anchors(ctx)
		notAfter, expiryErr := expirer.NotAfter(ctx)
		if anchorsErr == nil && expiryErr == nil && len(anchors) > 0 {
			known = &v1alpha1.BackendStatus{
				Name: m.name, Root: fmt.Sprintf("%x", sha256.Sum256(anchors[0].Raw)),
				CANotAfter: &metav1.Time{Time: notAfter.Truncate(time.Second)}, // as precise as the API keeps it
			}
		}
	}
	if c, ok := m.backend.(Checker); ok {
		return known, c.Check(ctx)
	}
	return known, nil
}

// publish publishes the trust anchors of all backends. While one of them does not know its own, nothing changes: a bundle
// without them would break those who verify what that backend signed.
func (r *StatusReconciler) publish(ctx context.Context, signer *Signer, object *v1alpha1.Signer) error {
	var anchors []*x509.Certificate
	for _, m := range signer.members {
		found, err := m.anchors(ctx)
		if err != nil {
			return fmt.Errorf("backend %s: reading trust anchors: %w", m.name, err)
		}
		if len(found) == 0 {
			return nil
		}
		anchors = append(anchors, found...)
	}
	if len(anchors) == 0 {
		return nil
	}
	where, err := r.Publisher.Publish(ctx, object, anchors)
	if err != nil {
		return &CheckError{Reason: ReasonTrustNotPublished, Err: fmt.Errorf("publishing the trust bundle: %w", err)}
	}
	object.Status.TrustBundle = where
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
