// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package secretname names the Secrets that Certwright keeps for itself in its own namespace. The names are those of Secrets that are
// there: one that changes loses what is in it.
package secretname

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Kind is what a backend keeps in a Secret of its own, of which it has one.
type Kind string

const (
	// CA is a CA that Certwright made.
	CA Kind = "certwright-ca-"
	// CARecord says what roots the CA of a backend had which an administrator brings. No Signer's name begins with a hyphen, so its name is
	// never that of a CA.
	CARecord Kind = "certwright-ca--"
	// ACMEAccount is the key of the account that Certwright made with an ACME server.
	ACMEAccount Kind = "certwright-acme-"
	// Venafi are refresh tokens, and orders.
	Venafi Kind = "certwright-venafi-"
)

// ACMEOrder begins the names of Secrets that hold one order at an ACME server each, together with a hash of the request.
const ACMEOrder = "certwright-acme-order-"

// webhook begins the names of what the webhook keeps.
const webhook = "certwright-webhook-"

// maxName is how long the name of a Secret may be: a DNS subdomain (RFC 1123).
const maxName = 253

// Of returns the name of the Secret of a backend, from the name of its Signer and its own. A backend's name has no dots, so no two
// backends share a Secret; a name that would be too long for Kubernetes becomes a hash.
func (k Kind) Of(signer, backend string) string {
	name := string(k) + signer + "." + backend
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(name))
		return string(k) + hex.EncodeToString(sum[:])
	}
	return name
}

// Own returns how the name of a Secret begins that Certwright keeps for itself, with keys of CAs and accounts, tokens and orders. It is
// empty for the name of any other one.
func Own(name string) (begin string) {
	for _, begin := range []string{string(CA), string(ACMEAccount), string(Venafi), webhook} {
		if strings.HasPrefix(name, begin) {
			return begin
		}
	}
	return ""
}
