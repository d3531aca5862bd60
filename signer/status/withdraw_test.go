// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/certwright/certwright/signer/internal/example"
)

func TestDeletedSignerIsWithdrawn(t *testing.T) {
	w := newWatcher(t, example.Signer("first"))
	w.backends["first"] = example.NewAble(example.Now.Add(time.Hour), example.Root.Certificate)
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	if err := w.api.Client.Delete(t.Context(), w.signer(t, "internal")); err != nil {
		t.Fatal(err)
	}
	want := []string{"withdraw " + example.SignerName}
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
	if got, reasons := w.count(t, "certwright_signer_ca_not_after_seconds"), w.reasons(t); got != 0 || len(reasons) > 0 {
		t.Errorf("the metrics still say %v and %q", got, reasons)
	}
	if _, err := w.check(t, "internal"); err != nil || len(w.calls) > 0 {
		t.Errorf("calls %q, error %v after it was withdrawn", w.calls, err)
	}
}

// Deleted and made again before anybody looked, for another signerName.
func TestReplacedSignerIsWithdrawn(t *testing.T) {
	w := newWatcher(t, example.Signer("local"))
	if _, err := w.check(t, "internal"); err != nil {
		t.Fatal(err)
	}
	replacement := example.Called(example.Signer("local"), "internal", "signer-2", 0)
	replacement.Spec.SignerName = "example.com/second"
	if err := errors.Join(w.api.Client.Delete(t.Context(), w.signer(t, "internal")), w.api.Client.Create(t.Context(), replacement)); err != nil {
		t.Fatal(err)
	}
	want := []string{"withdraw " + example.SignerName, "publish example.com/second root"}
	if _, err := w.check(t, "internal"); err != nil || !slices.Equal(w.calls, want) {
		t.Errorf("calls %q, error %v, want %q", w.calls, err, want)
	}
}

// One that was never ready is unknown to the registry, and remembered all the same.
func TestDeletedSignerThatWasNeverReadyIsForgotten(t *testing.T) {
	s := example.Signer("nobody")
	w := newWatcher(t, s)
	if _, err := w.check(t, "internal"); err == nil {
		t.Fatal("no error")
	}
	if err := w.api.Client.Delete(t.Context(), w.signer(t, "internal")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.check(t, "internal"); err != nil || len(w.calls) > 0 {
		t.Errorf("calls %q, error %v, want nothing to withdraw", w.calls, err)
	}
	if reasons := w.reasons(t); len(reasons) > 0 || len(w.status.seen) > 0 {
		t.Errorf("the metric still has %q, and remembered are %v", reasons, w.status.seen)
	}
}
