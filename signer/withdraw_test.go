// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestDeletedSignerIsWithdrawn(t *testing.T) {
	w := newWatcher(t, newSigner("first"))
	w.backends["first"] = newAble(now.Add(time.Hour), root.Certificate)
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Delete(t.Context(), w.signer(t, "internal")); err != nil {
		t.Fatal(err)
	}
	want := []string{"withdraw " + signerName}
	w.publisher.err = errors.New("connection refused")
	for range 2 {
		if _, err := w.check(t, "internal"); !errors.Is(err, w.publisher.err) || !slices.Equal(w.calls, want) {
			t.Fatalf("calls %q, error %v, want %q tried until it works", w.calls, err, want)
		}
	}
	w.publisher.err = nil
	if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, want) {
		t.Errorf("calls %q, error %v, want %q", w.calls, err, want)
	}
	if got := w.count(t, "certwright_signer_ca_not_after_seconds"); got != 0 {
		t.Errorf("the metric still says %v", got)
	}
	if _, err := w.check(t, "internal"); err != nil || len(w.calls) > 0 {
		t.Errorf("calls %q, error %v after it was withdrawn", w.calls, err)
	}
}

// Deleted and made again before anybody looked, for another signerName.
func TestReplacedSignerIsWithdrawn(t *testing.T) {
	w := newWatcher(t, newSigner("local"))
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	replacement := called(newSigner("local"), "internal", "signer-2", 0)
	replacement.Spec.SignerName = "example.com/second"
	if err := errors.Join(w.Client.Delete(t.Context(), w.signer(t, "internal")), w.Client.Create(t.Context(), replacement)); err != nil {
		t.Fatal(err)
	}
	want := []string{"withdraw " + signerName, "publish example.com/second root"}
	if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, want) {
		t.Errorf("calls %q, error %v, want %q", w.calls, err, want)
	}
}
