// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/certwright/certwright/signer/remote"
)

// Fault says whose fault an error is, and so what follows from it.
type Fault int

const (
	// FaultServer is the server's: it is down, overloaded or broken. It passes, and says nothing about a request.
	FaultServer Fault = iota
	// FaultBroken is the server's, too, but in what it did with one request, as it says itself: others may fare well.
	FaultBroken
	// FaultAccount is the account's: it is gone, or has terms to agree to. A person, or a new registration, must help.
	FaultAccount
	// FaultLimit is that there are too many requests: the server wants fewer.
	FaultLimit
	// FaultGone is that what was asked for does not exist, or no longer.
	FaultGone
	// FaultPassing is that of a request which was refused for what may look different at the next try, such as DNS that is slow.
	FaultPassing
	// FaultRequest is that of a request which was refused for what it is. Every other try would be refused alike.
	FaultRequest
)

// Error is why a call came to nothing. Its text is fit to be shown to people: bounded, on one line, with the server's words.
type Error struct {
	// Fault says what follows.
	Fault Fault
	// Problem is the type of the server's problem document, without its common prefix. Empty if there was none.
	Problem string
	// RetryAfter is how long the server wants to be left alone. Zero if it did not say.
	RetryAfter time.Duration

	text string
	err  error
}

func (e *Error) Error() string { return e.text }
func (e *Error) Unwrap() error { return e.err }

// Problems that say more than whose fault they are (RFC 8555, section 6.7).
const (
	ProblemNoAccount    = "accountDoesNotExist"
	ProblemUnauthorized = "unauthorized"
	ProblemTerms        = "userActionRequired"
	ProblemEAB          = "externalAccountRequired"
)

// requestFaults are problems of what is asked for (RFC 8555, section 6.7). They stay.
var requestFaults = map[string]bool{
	acme.ProblemTypeRejectedIdentifier: true, acme.ProblemTypeUnsupportedIdentifier: true, acme.ProblemTypeBadCSR: true,
	acme.ProblemTypeCAA: true, acme.ProblemTypeBadPublicKey: true, acme.ProblemTypeBadSignatureAlgorithm: true,
}

var otherFaults = map[string]Fault{
	acme.ProblemTypeServerInternal: FaultServer, acme.ProblemTypeBadNonce: FaultServer,
	acme.ProblemTypeRateLimited:         FaultLimit,
	acme.ProblemTypeAccountDoesNotExist: FaultAccount, acme.ProblemTypeExternalAccountRequired: FaultAccount,
	acme.ProblemTypeUserActionRequired: FaultAccount, acme.ProblemTypeInvalidContact: FaultAccount, acme.ProblemTypeUnsupportedContact: FaultAccount,
}

// FaultOf tells whose fault a problem is that a server reports of an order or a challenge.
func FaultOf(p *acme.Problem) Fault {
	if p == nil {
		return FaultPassing
	}
	if fault, known := otherFaults[p.Type]; known {
		return fault
	}
	if requestFaults[p.Type] {
		return FaultRequest
	}
	for _, sub := range p.Subproblems {
		if requestFaults[sub.Type] {
			return FaultRequest
		}
	}
	return FaultPassing
}

// failure makes an *Error of what went wrong in a call, but for the end of its context.
func failure(what string, answer *Answer, err error) error {
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			return fmt.Errorf("%s: %w", what, end)
		}
	}
	e := &Error{Fault: FaultServer, RetryAfter: answer.RetryAfter, text: what + ": " + remote.Bound(cause(err)), err: err}
	var problem acme.Problem
	if errors.As(err, &problem) {
		e.Problem, e.Fault = short(problem.Type), FaultOf(&problem)
		e.text = what + ": " + Words(&problem)
	} else if answer.Status >= 400 {
		e.text = fmt.Sprintf("%s: the server answers %d %s and says no more", what, answer.Status, http.StatusText(answer.Status))
	}
	switch {
	case answer.Status == http.StatusTooManyRequests:
		e.Fault = FaultLimit
	case answer.Status >= 500:
		e.Fault = FaultServer
		if e.Problem != "" && answer.Status != http.StatusServiceUnavailable {
			e.Fault = FaultBroken
		}
	case answer.Status == http.StatusNotFound && e.Fault != FaultAccount:
		e.Fault = FaultGone
	}
	return e
}

// cause is what happened, without the layers that acmez and net/http put around it.
func cause(err error) string {
	var inner *url.Error
	if !errors.As(err, &inner) {
		return err.Error()
	}
	host := inner.URL
	if u, err := url.Parse(inner.URL); err == nil {
		host = u.Host
	}
	return host + ": " + inner.Err.Error()
}

// Words are a problem document as people read it: its type, what the server says, and the same of its parts.
func Words(p *acme.Problem) string {
	if p == nil {
		return "the server does not say why"
	}
	var b strings.Builder
	b.WriteString(short(p.Type))
	if p.Detail != "" {
		b.WriteString(": " + remote.Bound(p.Detail))
	}
	for i, sub := range p.Subproblems {
		if i == maxSubproblems {
			fmt.Fprintf(&b, "; and %d more", len(p.Subproblems)-i)
			break
		}
		fmt.Fprintf(&b, "; %s: %s: %s", remote.Bound(sub.Identifier.Value), short(sub.Type), remote.Bound(sub.Detail))
	}
	return b.String()
}

// maxSubproblems is how many parts of a problem are quoted.
const maxSubproblems = 5

// short is the type of a problem without what all of them begin with.
func short(kind string) string {
	kind = remote.Bound(strings.TrimPrefix(kind, acme.ProblemTypeNamespace))
	if kind == "" {
		return "about:blank" // RFC 9457, section 3.1.1
	}
	return kind
}
