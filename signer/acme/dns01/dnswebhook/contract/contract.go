// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package contract is what Certwright and a DNS webhook say to each other; docs/dns-webhook.md tells it to people. Handler
// serves it, for webhooks in Go.
package contract

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

const (
	// Version of the contract. A request of another version is not answered.
	Version = "v1"
	// MaxBody is the size of the longest request and answer, in bytes.
	MaxBody = 64 << 10
)

// The paths below the webhook's URL. Each takes a Request by POST.
const (
	PathPresent = "/present"
	PathCleanUp = "/cleanup"
	PathCheck   = "/check"
)

// The statuses with a meaning. With any other one, the webhook has trouble, and is asked again.
const (
	StatusDone          = http.StatusOK
	StatusBadRequest    = http.StatusBadRequest          // the request breaks the contract
	StatusUnauthorized  = http.StatusUnauthorized        // the token is missing or wrong
	StatusMisconfigured = http.StatusUnprocessableEntity // nothing changes until a person does something
	StatusTrouble       = http.StatusServiceUnavailable  // it may work later
)

// Request is the body of a request. PathCheck gets no record.
type Request struct {
	Version string `json:"version"`
	txt.Record
	// Config is dns01.webhook.config of the Signer.
	Config map[string]string `json:"config,omitempty"`
}

// Answer is the body of an answer.
type Answer struct {
	Version string `json:"version"`
	// Error says to a person what is wrong and what to do. It is empty if all went well.
	Error string `json:"error,omitempty"`
}

// Open returns the writer that a configuration asks for. An error is as that of a txt.Writer.
type Open func(config map[string]string) (txt.Writer, error)

// Handler serves the contract. Without a token, anybody is served: that is for a Unix socket that only the signer can reach.
// Report is told of every request that was not done; it may be nil.
func Handler(open Open, token string, report func(path string, request Request, err error)) http.Handler {
	mux := http.NewServeMux()
	serve := func(path string, do func(context.Context, txt.Writer, txt.Record) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if !authorized(r, token) {
				reply(w, StatusUnauthorized, errors.New("the bearer token is missing or wrong"))
				return
			}
			request, err := Read(w, r)
			if err == nil && path != PathCheck {
				err = request.Validate()
			}
			if err != nil {
				reply(w, StatusBadRequest, err)
				return
			}
			writer, err := open(request.Config)
			if err == nil {
				err = do(r.Context(), writer, request.Record)
			}
			if err != nil && report != nil {
				report(path, request, err)
			}
			reply(w, status(err), err)
		})
	}
	serve(PathPresent, func(ctx context.Context, w txt.Writer, r txt.Record) error { return w.Present(ctx, r) })
	serve(PathCleanUp, func(ctx context.Context, w txt.Writer, r txt.Record) error { return w.CleanUp(ctx, r) })
	serve(PathCheck, func(ctx context.Context, w txt.Writer, _ txt.Record) error {
		if c, ok := w.(txt.Checker); ok {
			return c.Check(ctx)
		}
		return nil
	})
	return mux
}

// Read reads a request. Fields that it does not know are ignored: a later minor change of the contract may add some.
func Read(w http.ResponseWriter, r *http.Request) (Request, error) {
	var request Request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBody)).Decode(&request); err != nil {
		return Request{}, fmt.Errorf("reading the request: %w", err)
	}
	if request.Version != Version {
		return Request{}, fmt.Errorf("version: %.80q is not %q, the only one that is spoken here", request.Version, Version)
	}
	return request, nil
}

func authorized(r *http.Request, token string) bool {
	if token == "" {
		return true
	}
	got, want := sha256.Sum256([]byte(r.Header.Get("Authorization"))), sha256.Sum256([]byte("Bearer "+token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func status(err error) int {
	var misconfigured *txt.ConfigError
	switch {
	case err == nil:
		return StatusDone
	case errors.As(err, &misconfigured):
		return StatusMisconfigured
	default:
		return StatusTrouble
	}
}

func reply(w http.ResponseWriter, status int, err error) {
	answer := Answer{Version: Version}
	if err != nil {
		answer.Error = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // who asked may be gone
}
