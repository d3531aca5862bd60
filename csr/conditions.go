// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IsApproved reports whether the request was approved and not denied as well.
func IsApproved(obj *certificatesv1.CertificateSigningRequest) bool {
	return hasCondition(obj, certificatesv1.CertificateApproved) && !IsDenied(obj)
}

// IsDenied reports whether the request was denied.
func IsDenied(obj *certificatesv1.CertificateSigningRequest) bool {
	return hasCondition(obj, certificatesv1.CertificateDenied)
}

// IsFailed reports whether a signer gave the request up.
func IsFailed(obj *certificatesv1.CertificateSigningRequest) bool {
	return hasCondition(obj, certificatesv1.CertificateFailed)
}

// IsFinished reports whether nothing is left to do for the request: it is issued, denied or failed.
func IsFinished(obj *certificatesv1.CertificateSigningRequest) bool {
	return len(obj.Status.Certificate) > 0 || IsDenied(obj) || IsFailed(obj)
}

// IsUndecided reports whether nobody decided about the request yet: it waits for an approver or a person.
func IsUndecided(obj *certificatesv1.CertificateSigningRequest) bool {
	return !IsApproved(obj) && !IsFinished(obj)
}

// SetCondition sets a condition of the given type to True in obj, which the caller owns and writes. A condition of that type
// that is there already gets the new reason and message; its transition time moves only if its status does.
func SetCondition(obj *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType, reason, message string, now time.Time) {
	at := metav1.NewTime(now)
	condition := certificatesv1.CertificateSigningRequestCondition{
		Type:               kind,
		Status:             corev1.ConditionTrue,
		Reason:             reason,
		Message:            message,
		LastUpdateTime:     at,
		LastTransitionTime: at,
	}
	for i, old := range obj.Status.Conditions {
		if old.Type != kind {
			continue
		}
		if old.Status == condition.Status && !old.LastTransitionTime.IsZero() {
			condition.LastTransitionTime = old.LastTransitionTime
		}
		obj.Status.Conditions[i] = condition
		return
	}
	obj.Status.Conditions = append(obj.Status.Conditions, condition)
}

// hasCondition looks for status True. The API server allows these conditions no other status and fills in True where a
// client left it out, so anything else was never accepted by it.
func hasCondition(obj *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) bool {
	for _, c := range obj.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
