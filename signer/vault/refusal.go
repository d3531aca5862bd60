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
	var said *answerError
	if !errors.As(err, &said) {
		return b.unanswered(err)
	}
	switch code := said.status; {
	case code == http.StatusBadRequest && unknownRole.MatchString(said.words):
		return trouble(reasonRoleNotFound, "%w: create the role %q at %s/roles/%s, or set vault.role", err, b.role, b.mount, b.role)
	case (code == http.StatusBadRequest || code == http.StatusInternalServerError) && noIssuer.MatchString(said.words):
		return trouble(reasonNoIssuer, "%w: the PKI secrets engine at %s needs a CA", err, b.mount)
	case code == http.StatusBadRequest:
		for _, r := range refusals {
			if r.words.MatchString(said.words) {
				return permanent("%s: Vault's role %q refuses it: %s", r.field, b.role, said.words)
			}
		}
		return trouble(reasonRefused, "%w", err)
	case code == http.StatusForbidden:
		return trouble(reasonDenied, "%w: the token's policy must allow update on %s", err, b.path("sign"))
	case code == http.StatusNotFound:
		return trouble(reasonPathNotFound, "%w: is a PKI secrets engine mounted at %q, in that namespace?", err, b.mount)
	}
	return unavailable(said)
}

// unanswered gives the reason to an error that is no answer of Vault's, unless it has one.
func (b *Backend) unanswered(err error) error {
	if has := (*signer.CheckError)(nil); errors.As(err, &has) {
		return err
	}
	return trouble(reasonUnreachable, "asking Vault: %w", err)
}

// unavailable explains the answers that no request and no configuration is at fault for.
func unavailable(said *answerError) error {
	switch said.status {
	case http.StatusTooManyRequests:
		return trouble(reasonRateLimited, "%w: a rate limit quota was reached", said)
	case http.StatusServiceUnavailable:
		if said.words == "Vault is sealed" {
			return trouble(reasonSealed, "%w: unseal it", said)
		}
	case 472, 473: // a secondary of disaster recovery, or a performance standby
		return trouble(reasonNotReady, "%w: it is a standby that does not forward requests: let vault.url lead to the active node", said)
	}
	return trouble(reasonUnavailable, "%w", said)
}

// loginError explains why a login did not work.
func loginError(c credentials, err error) error {
	var said *answerError
	if !errors.As(err, &said) {
		return trouble(reasonUnreachable, "logging in to Vault: %w", err)
	}
	if said.status/100 == 4 && said.status != http.StatusTooManyRequests && said.status < 470 {
		if c.token != "" {
			return trouble(reasonTokenRefused, "looking up the token: %w", err)
		}
		return trouble(reasonLoginFailed, "logging in to Vault: %w", err)
	}
	return unavailable(said)
}
