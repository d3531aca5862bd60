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
	named := func(name string, change func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
		r := approved(t, nil)
		r.Name = name
		change(r)
		return r
	}
	w := newWorld(t,
		named("waiting", func(*certificatesv1.CertificateSigningRequest) {}),
		named("pending", func(r *certificatesv1.CertificateSigningRequest) { r.Status.Conditions = nil }),
		named("denied", func(r *certificatesv1.CertificateSigningRequest) { set(r, certificatesv1.CertificateDenied) }),
		named("failed", func(r *certificatesv1.CertificateSigningRequest) { set(r, certificatesv1.CertificateFailed) }),
		named("issued", func(r *certificatesv1.CertificateSigningRequest) { r.Status.Certificate = []byte("x") }),
		named("other", func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "example.com/other" }),
	)
	if got, want := names(w.waiting(t.Context(), newSigner("local").Spec.SignerName)), []string{"waiting"}; !slices.Equal(got, want) {
		t.Errorf("waiting are %q, want %q", got, want)
	}
	w.readErr = func(runtime.Object) error { return errors.New("connection refused") }
	if got := names(w.waiting(t.Context(), newSigner("local").Spec.SignerName)); len(got) > 0 {
		t.Errorf("waiting are %q although they cannot be listed", got)
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
