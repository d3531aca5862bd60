// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"net/http"
	"regexp"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/vault/session"
)

// Reasons of the *signer.CheckError that this package returns beside those of session.
const (
	reasonDenied       = "VaultPermissionDenied"
	reasonTokenRefused = "VaultTokenRefused" //nolint:gosec // no token
	reasonRoleNotFound = "VaultRoleNotFound"
	reasonPathNotFound = "VaultPathNotFound"
	reasonNoIssuer     = "VaultIssuerNotFound"
	reasonRootUnknown  = "VaultRootUnknown"
	reasonCAExpired    = "VaultCAExpired"
	reasonRefused      = "VaultRefused"
)

// refusals are the reasons with which a role refuses a request for what that asks for, and the field of the request: those of
// Vault 1.13 to 1.19 and of OpenBao. They are matched as a whole, as they quote what a requester wrote.
var refusals = []struct {
	words *regexp.Regexp
	field string
}{
	{regexp.MustCompile(`^common name .* not allowed by this role$`), "commonName"},
	{regexp.MustCompile(`^the common_name field is required`), "commonName"},
	{regexp.MustCompile(`^subject alternate name .* not allowed by this role$`), "dnsNames"},
	{regexp.MustCompile(`^subject alternate name .* is not a valid DNS name`), "dnsNames"},
	{regexp.MustCompile(`^idna: `), "dnsNames"},
	{regexp.MustCompile(`^email address .* not allowed by this role$`), "emailAddresses"},
	{regexp.MustCompile(`^IP Subject Alternative Names are not allowed in this role`), "ipAddresses"},
	{regexp.MustCompile(`^URI Subject Alternative Names (are not allowed in|were provided via .* which are not valid for) this role`), "uris"},
	{regexp.MustCompile(`^serial_number .* not allowed by this role$`), "serialNumbers"},
	{regexp.MustCompile(`^role requires (keys of type|a minimum of)`), "key"},
	{regexp.MustCompile(`^RSA keys < [0-9]+ bits are unsafe`), "key"},
	{regexp.MustCompile(`^Vault requires a minimum of a [0-9]+-bit key`), "key"},
	{regexp.MustCompile(`^Unknown key type in CSR`), "key"},
}

var (
	unknownRole = regexp.MustCompile(`^unknown role: `)
	noIssuer    = regexp.MustCompile(`^(could not fetch the CA certificate|error fetching CA certificate|no default issuer|unable to (find|fetch).* issuer)`)
)

// refused says what a failed call to sign means. What Vault dislikes about a request, in words that are known or not, is that
// request's alone: anybody could take the backend from all others otherwise. Check finds what is wrong for all.
func (b *Backend) refused(err error) error {
	no := session.Said(err)
	if no == nil || no.Code != http.StatusBadRequest || unknownRole.MatchString(no.Words) || noIssuer.MatchString(no.Words) {
		return b.explain(err)
	}
	for _, r := range refusals {
		if r.words.MatchString(no.Words) {
			return permanent("%s: Vault's role %q refuses it: %s", r.field, b.role, remote.Bound(no.Words))
		}
	}
	return &signer.RequestError{Err: err}
}

// explain says what a failed call means that has nothing to do with a request.
func (b *Backend) explain(err error) error {
	no := session.Said(err)
	if no == nil {
		return session.Unanswered(err)
	}
	switch code := no.Code; {
	case code == http.StatusBadRequest && unknownRole.MatchString(no.Words):
		return session.Trouble(reasonRoleNotFound, "%w: create the role %q at %s/roles/%s, or set vault.role", err, b.role, b.mount, b.role)
	case (code == http.StatusBadRequest || code == http.StatusInternalServerError) && noIssuer.MatchString(no.Words):
		return session.Trouble(reasonNoIssuer, "%w: the PKI secrets engine at %s needs a CA", err, b.mount)
	case code == http.StatusBadRequest:
		return session.Trouble(reasonRefused, "%w", err)
	case code == http.StatusForbidden:
		return session.Trouble(reasonDenied, "%w: the token was revoked, or its policy does not allow update on %s", err, b.path("sign"))
	case code == http.StatusNotFound:
		return session.Trouble(reasonPathNotFound, "%w: is a PKI secrets engine mounted at %q, in that namespace?", err, b.mount)
	}
	return session.Unavailable(no)
}
