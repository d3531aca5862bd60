// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/csr"
)

func TestConditions(t *testing.T) {
	type condition = certificatesv1.CertificateSigningRequestCondition
	is := func(kind certificatesv1.RequestConditionType, status corev1.ConditionStatus) condition {
		return condition{Type: kind, Status: status}
	}
	tests := map[string]struct {
		conditions                         []condition
		certificate                        string
		approved, denied, failed, finished bool
	}{
		"pending":               {nil, "", false, false, false, false},
		"approved":              {[]condition{is("Approved", "True")}, "", true, false, false, false},
		"issued":                {[]condition{is("Approved", "True")}, "x", true, false, false, true},
		"denied":                {[]condition{is("Denied", "True")}, "", false, true, false, true},
		"failed":                {[]condition{is("Approved", "True"), is("Failed", "True")}, "", true, false, true, true},
		"approved and denied":   {[]condition{is("Approved", "True"), is("Denied", "True")}, "", false, true, false, true},
		"approved: false":       {[]condition{is("Approved", "False")}, "", false, false, false, false},
		"approved: unknown":     {[]condition{is("Approved", "Unknown")}, "", false, false, false, false},
		"approved: nothing":     {[]condition{is("Approved", "")}, "", false, false, false, false},
		"another type":          {[]condition{is("approved", "True")}, "", false, false, false, false},
		"approved behind false": {[]condition{is("Approved", "False"), is("Approved", "True")}, "", true, false, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			obj := &certificatesv1.CertificateSigningRequest{}
			obj.Status.Conditions = tt.conditions
			obj.Status.Certificate = []byte(tt.certificate)
			got := [4]bool{csr.IsApproved(obj), csr.IsDenied(obj), csr.IsFailed(obj), csr.IsFinished(obj)}
			if want := [4]bool{tt.approved, tt.denied, tt.failed, tt.finished}; got != want {
				t.Errorf("approved, denied, failed, finished: got %v, want %v", got, want)
			}
			if got, want := csr.IsUndecided(obj), !tt.approved && !tt.finished; got != want {
				t.Errorf("undecided: got %v, want %v", got, want)
			}
		})
	}
}

func TestSetCondition(t *testing.T) {
	obj := &certificatesv1.CertificateSigningRequest{}
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	second := first.Add(time.Hour)
	csr.SetCondition(obj, certificatesv1.CertificateApproved, "PolicyPermits", "one", first)
	csr.SetCondition(obj, certificatesv1.CertificateFailed, "Other", "two", second)
	csr.SetCondition(obj, certificatesv1.CertificateApproved, "PolicyPermitsAgain", "three", second)
	if len(obj.Status.Conditions) != 2 {
		t.Fatalf("got %+v, want two conditions", obj.Status.Conditions)
	}
	approved, failed := obj.Status.Conditions[0], obj.Status.Conditions[1]
	if approved.Type != "Approved" || approved.Status != "True" || approved.Reason != "PolicyPermitsAgain" || approved.Message != "three" ||
		!approved.LastUpdateTime.Time.Equal(second) || !approved.LastTransitionTime.Time.Equal(first) {
		t.Errorf("got %+v", approved)
	}
	if failed.Type != "Failed" || failed.Status != "True" || !failed.LastTransitionTime.Time.Equal(second) {
		t.Errorf("got %+v", failed)
	}
	if !csr.IsApproved(obj) || !csr.IsFailed(obj) {
		t.Error("the conditions are set but not seen")
	}
	obj.Status.Conditions[0].Status = corev1.ConditionFalse
	csr.SetCondition(obj, certificatesv1.CertificateApproved, "PolicyPermits", "four", second)
	if got := obj.Status.Conditions[0]; got.Status != "True" || !got.LastTransitionTime.Time.Equal(second) {
		t.Errorf("after a transition: got %+v", got)
	}
}
