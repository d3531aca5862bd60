// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer

import (
	"fmt"
	"time"
)

// PermanentError says that a backend will never sign this request, such as when the CA's name constraints forbid a name.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// PendingError says that a backend needs time for this request, and when to ask it again.
type PendingError struct {
	After  time.Duration
	Reason string
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("%s; asking again in %s", e.Reason, e.After)
}

// RequestError says that a backend is well but cannot sign this request now, for a reason that its requester may have a hand in,
// such as a name that cannot be validated yet. The next backend is asked, and this one again after some minutes; it is never
// taken out of service for it.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return e.Err.Error() }
func (e *RequestError) Unwrap() error { return e.Err }

// CheckError says why a backend cannot sign now. Reason is in CamelCase and fit for a condition, such as "CAExpired". Signs is true
// if the backend signs all the same, and only wants a person to look.
type CheckError struct {
	Reason string
	Err    error
	Signs  bool
}

func (e *CheckError) Error() string { return e.Err.Error() }
func (e *CheckError) Unwrap() error { return e.Err }
