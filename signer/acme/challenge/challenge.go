// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package challenge is what an ACME server asks for to believe that a name is ours (RFC 8555, section 8), and what answers it.
package challenge

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Types of challenges.
const (
	HTTP01 = "http-01"
	DNS01  = "dns-01"
)

// Challenge is one that a server set. Two orders may hold the same one, and one domain may have several at a time: an answer
// to one must leave those to the others alone.
type Challenge struct {
	// Type is HTTP01 or DNS01.
	Type string `json:"type"`
	// Domain to prove, without "*." and in lower case. For HTTP-01 it may be an IP address (RFC 8738).
	Domain string `json:"domain"`
	// Token in base64url, as the server chose it.
	Token string `json:"token"`
	// KeyAuthorization is the token and the thumbprint of the account's key (RFC 8555, section 8.1).
	KeyAuthorization string `json:"keyAuthorization"`
	// Place is what the solver's Locate returned, if it is a Locator.
	Place string `json:"place,omitempty"`
}

// RecordName is the name of the TXT record of a DNS-01 challenge, without a dot at its end.
func (c Challenge) RecordName() string { return "_acme-challenge." + c.Domain }

// RecordValue is the value of the TXT record of a DNS-01 challenge.
func (c Challenge) RecordValue() string {
	sum := sha256.Sum256([]byte(c.KeyAuthorization))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// maxToken is how long a token may be. Servers take 22 to 43 characters.
const maxToken = 256

// LegalToken reports whether a token is in base64url (RFC 8555, section 8.1), and so fit for a path.
func LegalToken(token string) bool {
	return token != "" && len(token) <= maxToken && !strings.ContainsFunc(token, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// Solver answers challenges of one type. Nothing in it waits for the world to change: it is asked again instead. Each method
// may be called any number of times for one challenge, also by another process than the one that called the others before,
// and from several goroutines.
type Solver interface {
	// Present puts the answer in place, beside those to other challenges. It does not wait until the answer can be seen.
	Present(ctx context.Context, c Challenge) error
	// Ready returns nil if the server would see the answer, or what is still missing, fit to be shown to people.
	Ready(ctx context.Context, c Challenge) error
	// CleanUp takes exactly this answer away. It is no error if it is not there.
	CleanUp(ctx context.Context, c Challenge) error
}

// Locator is a Solver that must find out first where an answer goes, such as the zone of a TXT record. The place is stored
// before the answer is put there, so that it is taken away from that very place, whatever the world looks like by then. Locate
// changes nothing.
type Locator interface {
	Locate(ctx context.Context, c Challenge) (place string, err error)
}

// NewSolver makes a solver from its configuration, without I/O; the error is about the configuration and names the field below
// the solver, such as "dns01.rfc2136.server: ...". Solvers are made again from a stored configuration to clean up after a
// Signer that is gone, so that nothing but the configuration may be needed.
type NewSolver func(v1alpha1.ACMESolver) (Solver, error)
