// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"net/http"
	"regexp"

	"github.com/certwright/certwright/signer"
)

// Reasons of the *signer.CheckError that this package returns.
const (
	reasonUnreachable  = "VaultUnreachable"
	reasonSealed       = "VaultSealed"
	reasonNotReady     = "VaultNotReady"
	reasonRateLimited  = "VaultRateLimited"
	reasonUnavailable  = "VaultUnavailable"
	reasonLoginFailed  = "VaultLoginFailed"
	reasonTokenFile    = "VaultTokenFileMissing" //nolint:gosec // no token
	reasonTokenRefused = "VaultTokenRefused"     //nolint:gosec // no token
	reasonDenied       = "VaultPermissionDenied"
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

// explain says what a failed call to sign means: never by a request's choice more than for that request.
func (b *Backend) explain(err error) error {
	no := said(err)
	if no == nil {
		return unanswered(err)
	}
	switch code := no.status; {
	case code == http.StatusBadRequest && unknownRole.MatchString(no.words):
		return trouble(reasonRoleNotFound, "%w: create the role %q at %s/roles/%s, or set vault.role", err, b.role, b.mount, b.role)
	case (code == http.StatusBadRequest || code == http.StatusInternalServerError) && noIssuer.MatchString(no.words):
		return trouble(reasonNoIssuer, "%w: the PKI secrets engine at %s needs a CA", err, b.mount)
	case code == http.StatusBadRequest:
		for _, r := range refusals {
			if r.words.MatchString(no.words) {
				return permanent("%s: Vault's role %q refuses it: %s", r.field, b.role, no.words)
			}
		}
		return trouble(reasonRefused, "%w", err)
	case code == http.StatusForbidden:
		return trouble(reasonDenied, "%w: the token's policy must allow update on %s", err, b.path("sign"))
	case code == http.StatusNotFound:
		return trouble(reasonPathNotFound, "%w: is a PKI secrets engine mounted at %q, in that namespace?", err, b.mount)
	}
	return unavailable(no)
}

// unanswered gives the reason to an error that is no answer of Vault's, unless it has one.
func unanswered(err error) error {
	if has := (*signer.CheckError)(nil); errors.As(err, &has) {
		return err
	}
	return trouble(reasonUnreachable, "asking Vault: %w", err)
}

// unavailable explains the answers that no request and no configuration is at fault for.
func unavailable(no *answerError) error {
	switch no.status {
	case http.StatusTooManyRequests:
		return trouble(reasonRateLimited, "%w: a rate limit quota was reached", no)
	case http.StatusServiceUnavailable:
		if no.words == "Vault is sealed" {
			return trouble(reasonSealed, "%w: unseal it", no)
		}
	case statusSecondary, statusStandby:
		return trouble(reasonNotReady, "%w: it is a standby that does not forward requests: let vault.url lead to the active node", no)
	}
	return trouble(reasonUnavailable, "%w", no)
}

// loginError explains why a login did not work.
func loginError(err error) error {
	no := said(err)
	switch {
	case no == nil:
		return trouble(reasonUnreachable, "logging in to Vault: %w", err)
	case no.refused() || (no.status == http.StatusInternalServerError && no.words != ""): // as for an unknown secret ID
		return trouble(reasonLoginFailed, "logging in to Vault: %w", err)
	}
	return unavailable(no)
}
