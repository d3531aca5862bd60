// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"errors"
	"strings"
	"testing"

	"github.com/certwright/certwright/signer"
)

// Kind tells the kinds of a backend's errors apart: "none", "permanent", "request", "pending" with the time after which it asks again,
// the reason of a *signer.CheckError, or "trouble" for any other.
func Kind(err error) string {
	var permanent *signer.PermanentError
	var pending *signer.PendingError
	var own *signer.RequestError
	var check *signer.CheckError
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &permanent):
		return "permanent"
	case errors.As(err, &pending):
		return "pending " + pending.After.String()
	case errors.As(err, &own):
		return "request"
	case errors.As(err, &check):
		return check.Reason
	}
	return "trouble"
}

// WantError checks the kind of an error and that it says something.
func WantError(t testing.TB, err error, want, words string) {
	t.Helper()
	if got := Kind(err); got != want {
		t.Errorf("the error is of kind %s, want %s: %v", got, want, err)
	}
	if err != nil && !strings.Contains(err.Error(), words) {
		t.Errorf("the error does not say %q: %v", words, err)
	}
}
