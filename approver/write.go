// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package approver

import (
	"context"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/describe"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/quota"
)

// approve approves the request, unless a quota of the policy has it wait.
func (r *Reconciler) approve(ctx context.Context, object *certificatesv1.CertificateSigningRequest, req csr.Request, d policy.Decision) (ctrl.Result, error) {
	wait, err := r.quotas.Take(ctx, req, d.Policy, d.Quotas)
	if err != nil || wait != nil {
		return r.queue(ctx, object, wait), err
	}
	if err := r.write(ctx, object, certificatesv1.CertificateApproved, ReasonPermitted, d.Message()); err != nil {
		r.quotas.Return(req, d.Policy, d.Quotas)
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, nil
}

// queue has the request wait for a quota. There may be no reason to.
func (r *Reconciler) queue(ctx context.Context, object *certificatesv1.CertificateSigningRequest, wait *quota.Wait) ctrl.Result {
	if wait == nil {
		return ctrl.Result{}
	}
	r.Metrics.queued(wait)
	r.Teller.Warn(ctx, object, ReasonQuota, wait.String())
	return ctrl.Result{RequeueAfter: max(wait.Again.Sub(r.Clock.Now()), time.Second)}
}

// present puts the request before a person, in an event and an annotation, unless too many of them wait already.
func (r *Reconciler) present(ctx context.Context, object *certificatesv1.CertificateSigningRequest, req csr.Request, d policy.Decision) (ctrl.Result, error) {
	wait, err := r.quotas.Show(ctx, req, d.Policy, d.Quotas)
	if err != nil || wait != nil {
		return r.queue(ctx, object, wait), err
	}
	if version, ok := r.reviewed.Get(object.UID); ok && version == object.ResourceVersion {
		return ctrl.Result{}, nil // it was before
	}
	if err := r.annotate(ctx, object, describe.Review(req, d.Policy)); err != nil {
		return ctrl.Result{}, err
	}
	approve, deny := describe.Commands(object.Name)
	r.Teller.Inform(ctx, object, ReasonManual, fmt.Sprintf("%s It waits for a person: %s, or %s. What it asks for: %s.",
		d.Message(), approve, deny, strings.ReplaceAll(describe.Request(req), "\n", "; ")))
	return ctrl.Result{}, nil
}

// annotate has the request say what a person has to decide, unless it does. The cache holds no annotations, so the live
// request is asked.
func (r *Reconciler) annotate(ctx context.Context, object *certificatesv1.CertificateSigningRequest, text string) error {
	var live certificatesv1.CertificateSigningRequest
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(object), &live); err != nil {
		return client.IgnoreNotFound(err)
	}
	if live.UID != object.UID || live.ResourceVersion != object.ResourceVersion {
		return nil // it is another one now, which the cache will show
	}
	if live.Annotations[v1alpha1.AnnotationReview] != text {
		before := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: object.Name, ResourceVersion: object.ResourceVersion}}
		after := before.DeepCopy()
		after.Annotations = map[string]string{v1alpha1.AnnotationReview: text}
		if err := r.Client.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("writing annotation %s: %w", v1alpha1.AnnotationReview, err)
		}
		live.ResourceVersion = after.ResourceVersion
	}
	r.reviewed.Add(object.UID, live.ResourceVersion)
	return nil
}

// deny denies the request and tells why in an event, as kubectl describe shows events but no messages of conditions.
func (r *Reconciler) deny(ctx context.Context, object *certificatesv1.CertificateSigningRequest, reason, message string) error {
	if err := r.write(ctx, object, certificatesv1.CertificateDenied, reason, message); err != nil {
		return err
	}
	r.Teller.Warn(ctx, object, reason, message)
	return nil
}

// write adds a condition. The object's resourceVersion binds the write to the very request that was judged. It is a patch, as
// the cache holds no labels and annotations, which an update would take from the request.
func (r *Reconciler) write(ctx context.Context, object *certificatesv1.CertificateSigningRequest, condition certificatesv1.RequestConditionType, reason, message string) error {
	updated := object.DeepCopy()
	csr.SetCondition(updated, condition, reason, message, r.Clock.Now())
	patch := client.MergeFromWithOptions(object, client.MergeFromWithOptimisticLock{})
	if err := r.Client.SubResource("approval").Patch(ctx, updated, patch); err != nil {
		return fmt.Errorf("writing condition %s: %w", condition, err)
	}
	r.Metrics.wrote(object.Spec.SignerName, condition)
	return nil
}
