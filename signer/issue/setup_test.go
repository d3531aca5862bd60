// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/certwright/certwright/signer/internal/example"
)

func TestRequestsThatWaitForASigner(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*certificatesv1.CertificateSigningRequest)
		waits  bool
	}{
		"approved": {func(*certificatesv1.CertificateSigningRequest) {}, true},
		"pending":  {func(r *certificatesv1.CertificateSigningRequest) { r.Status.Conditions = nil }, false},
		"denied":   {func(r *certificatesv1.CertificateSigningRequest) { set(r, certificatesv1.CertificateDenied) }, false},
		"failed":   {func(r *certificatesv1.CertificateSigningRequest) { set(r, certificatesv1.CertificateFailed) }, false},
		"issued":   {func(r *certificatesv1.CertificateSigningRequest) { r.Status.Certificate = []byte("x") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := example.Approved(t, nil)
			if c.change(r); waits(r) != c.waits {
				t.Errorf("waits: %t", !c.waits)
			}
		})
	}
}

// All requests that wait are looked at again when their Signer can sign again, and not each time that its status is written.
func TestStartsToServe(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          bool
	}{
		"none, then one":       {"", "first", true},
		"one, then another":    {"first", "second", true},
		"the same":             {"first", "first", false},
		"one, then none":       {"first", "", false},
		"none, and still none": {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := example.Signer("first", "second"), example.Signer("first", "second")
			before.Status.Serving, after.Status.Serving = c.before, c.after
			after.Status.Conditions = []metav1.Condition{{Message: "other words"}}
			if got := startsToServe.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}
