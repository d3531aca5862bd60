// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/certwright/certwright/signer"
)

// Reasons of the *signer.CheckError that this package returns.
const (
	ReasonUnreachable = "VaultUnreachable"      // there is no answer
	ReasonSealed      = "VaultSealed"           // it is sealed
	ReasonNotReady    = "VaultNotReady"         // it is not initialized, or a secondary
	ReasonRateLimited = "VaultRateLimited"      // a quota was reached
	ReasonUnavailable = "VaultUnavailable"      // it answers nothing of use
	ReasonLoginFailed = "VaultLoginFailed"      // it does not take the credentials
	ReasonTokenFile   = "VaultTokenFileMissing" //nolint:gosec // no token, but the file with one
)

// Trouble returns a *signer.CheckError.
func Trouble(reason, format string, args ...any) error {
	return &signer.CheckError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Unanswered gives the reason to an error that is no answer of Vault's, unless it has one.
func Unanswered(err error) error {
	if has := (*signer.CheckError)(nil); errors.As(err, &has) {
		return err
	}
	return Trouble(ReasonUnreachable, "asking Vault: %w", err)
}

// Unavailable explains the answers that no request and no configuration is at fault for.
func Unavailable(no *AnswerError) error {
	switch no.Code {
	case http.StatusTooManyRequests:
		return Trouble(ReasonRateLimited, "%w: a rate limit quota was reached", no)
	case http.StatusServiceUnavailable:
		if no.Words == "Vault is sealed" {
			return Trouble(ReasonSealed, "%w: unseal it", no)
		}
	case StatusSecondary, StatusStandby:
		return Trouble(ReasonNotReady, "%w: it is a standby that does not forward requests: let vault.url lead to the active node", no)
	}
	return Trouble(ReasonUnavailable, "%w", no)
}

// loginError explains why a login did not work.
func loginError(err error) error {
	no := Said(err)
	switch {
	case no == nil:
		return Trouble(ReasonUnreachable, "logging in to Vault: %w", err)
	case no.refusedLogin():
		return Trouble(ReasonLoginFailed, "logging in to Vault: %w", err)
	}
	return Unavailable(no)
}
