// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/issue"
)

// refreshMargin is how far beginRefreshAt must lie from both ends of a certificate's life, by the rules of the API server.
const refreshMargin = 10 * time.Minute

// condition returns the one condition that ends a request.
func (r *Reconciler) condition(kind, reason, message string) []metav1.Condition {
	return []metav1.Condition{{
		Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	}}
}

// write writes the status, bound by the resourceVersion to the very request that was judged. It is a patch, as the cache does not hold all of
// the object.
func (r *Reconciler) write(ctx context.Context, object client.Object, status certificatesv1.PodCertificateRequestStatus) error {
	return r.Client.Status().Patch(ctx, withStatus(object, status), client.MergeFromWithOptions(object, client.MergeFromWithOptimisticLock{}))
}

// issue writes the certificate. The API server checks it by its own clock: what it does not take is signed anew later.
func (r *Reconciler) issue(ctx context.Context, object client.Object, issued issue.Issued, by string) (ctrl.Result, error) {
	leaf := issued.Chain[0]
	notBefore, notAfter, refresh := metav1.NewTime(leaf.NotBefore), metav1.NewTime(leaf.NotAfter), metav1.NewTime(beginRefreshAt(leaf, issued.RenewAt))
	status := certificatesv1.PodCertificateRequestStatus{
		Conditions: r.condition(certificatesv1.PodCertificateRequestConditionTypeIssued, "Issued", fmt.Sprintf("Permitted by CertificatePolicy %q.", by)),
		NotBefore:  &notBefore, NotAfter: &notAfter, BeginRefreshAt: &refresh,
		CertificateChain: string(signer.EncodePEM(issued.Chain...)),
	}
	signerName, uid := wide(object).Spec.SignerName, object.GetUID()
	err := r.write(ctx, object, status)
	if apierrors.IsInvalid(err) {
		err = fmt.Errorf("the API server does not take the certificate, as it does if its clock and those of the signer and its backend differ by more than 4 minutes: %s", complaints(err))
		r.Rejected(uid, err)
		return r.later(ctx, object, err)
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the certificate: %w", err)
	}
	r.Written(uid, signerName, object.GetCreationTimestamp().Time)
	logf.FromContext(ctx).Info("issued", "signer", signerName, "pod", wide(object).Spec.PodName, "node", wide(object).Spec.NodeName,
		"serial", leaf.SerialNumber.Text(16), "notAfter", leaf.NotAfter.UTC().Format(time.RFC3339))
	return ctrl.Result{}, nil
}

// complaints returns what the API server has against fields, without their values: a chain takes kilobytes.
func complaints(err error) string {
	var status apierrors.APIStatus
	var all []string
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, c := range status.Status().Details.Causes {
			what := c.Message
			if _, after, cut := strings.Cut(what, `": `); cut {
				what = after
			}
			all = append(all, c.Field+": "+what)
		}
	}
	return strings.Join(all, "; ")
}

// beginRefreshAt says when the kubelet is to begin to ask for the next certificate: after three fifths to two thirds of its life, so that pods
// which started together do not come together for ever; earlier if the backend advises that. The kubelet adds up to five minutes.
func beginRefreshAt(leaf *x509.Certificate, advised time.Time) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	at := leaf.NotBefore.Add(wait.Jitter(life*3/5, 1.0/9))
	if !advised.IsZero() && advised.Before(at) {
		at = advised
	}
	if first := leaf.NotBefore.Add(refreshMargin); at.Before(first) {
		at = first
	}
	if last := leaf.NotAfter.Add(-refreshMargin); at.After(last) {
		at = last
	}
	return at.Truncate(time.Second)
}

// refuse gives the request up and tells why in an event.
func (r *Reconciler) refuse(ctx context.Context, object client.Object, no *verdict) error {
	message := no.Text()
	status := certificatesv1.PodCertificateRequestStatus{Conditions: r.condition(no.condition, no.Reason, message)}
	if err := r.write(ctx, object, status); err != nil {
		return fmt.Errorf("writing condition %s: %w", no.condition, err)
	}
	r.GivenUp(object.GetUID(), wide(object).Spec.SignerName, no.Refusal)
	r.Teller.Warn(ctx, object, no.Reason, message)
	return nil
}
