// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func names(requests []reconcile.Request) []string {
	var all []string
	for _, r := range requests {
		all = append(all, r.Name)
	}
	slices.Sort(all)
	return all
}

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
			r := approved(t, nil)
			if c.change(r); waits(r) != c.waits {
				t.Errorf("waits: %t", !c.waits)
			}
		})
	}
}

func TestSecretConcernsAllSigners(t *testing.T) {
	w := newWatcher(t, called(newSigner("local"), "a", "1", time.Hour), called(newSigner("local"), "b", "2", time.Hour))
	if got, want := names(w.status.all(t.Context())), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("concerned are %q, want %q", got, want)
	}
	w.readErr = func(runtime.Object) error { return errors.New("connection refused") }
	if got := names(w.status.all(t.Context())); len(got) > 0 {
		t.Errorf("concerned are %q although they cannot be listed", got)
	}
}
