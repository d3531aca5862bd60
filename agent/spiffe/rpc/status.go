// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Code is a status code of gRPC (https://grpc.io/docs/guides/status-codes).
type Code int

// The codes that are used here.
const (
	OK                Code = 0
	InvalidArgument   Code = 3
	DeadlineExceeded  Code = 4
	NotFound          Code = 5
	PermissionDenied  Code = 7
	ResourceExhausted Code = 8
	Unimplemented     Code = 12
	Internal          Code = 13
	Unavailable       Code = 14
)

// Status is how a call ended, as an error.
type Status struct {
	Code    Code
	Message string // is shown to the client
}

// Errorf returns a *Status.
func Errorf(code Code, format string, args ...any) error {
	return &Status{code, fmt.Sprintf(format, args...)}
}

// Error returns the message.
func (s *Status) Error() string { return s.Message }

func statusOf(err error) *Status {
	var status *Status
	switch {
	case err == nil:
		return &Status{Code: OK}
	case errors.As(err, &status):
		return status
	case errors.Is(err, context.Canceled): // by the end of the server; or of the client, who then won't read this
		return &Status{Unavailable, "the server is ending"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Status{DeadlineExceeded, "the first message took too long"}
	}
	return &Status{Internal, "the stream is broken"}
}
