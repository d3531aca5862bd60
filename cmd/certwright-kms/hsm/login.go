// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/certwright/certwright/signer"
)

// The reasons of the *signer.CheckErrors of this package.
const (
	reasonPINRequired = "PINRequired"
	reasonPINRefused  = "PINRefused"
	reasonTokenLocked = "TokenLocked"
)

// login logs a session in, and with it all sessions that this process has with the token. Tokens lock themselves, or wipe their
// keys, after a few wrong PINs, so a PIN that was refused is never tried again by any backend of this process.
func (m *Modules) login(in *module, session pkcs11.SessionHandle, token pkcs11.TokenInfo, pin string) error {
	if token.Flags&pkcs11.CKF_LOGIN_REQUIRED == 0 {
		return nil
	}
	if err := mayTry(token.Flags, pin); err != nil {
		return err
	}
	in.logins.Lock() // several backends may come with the same wrong PIN at once
	defer in.logins.Unlock()
	attempt := sha256.Sum256([]byte(strings.Join([]string{in.path, token.SerialNumber, token.Label, pin}, "\x00")))
	if _, refused := m.refused.Load(attempt); refused {
		return refusedPIN()
	}
	err := in.Login(session, pkcs11.CKU_USER, pin)
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return err // nil, or nothing that a token says
	}
	switch code {
	case pkcs11.CKR_USER_ALREADY_LOGGED_IN: // another backend uses the token
		return nil
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
		m.refused.Store(attempt, nil)
		return refusedPIN()
	case pkcs11.CKR_PIN_LOCKED:
		return locked()
	case pkcs11.CKR_PIN_EXPIRED:
		return &signer.CheckError{Reason: reasonPINRefused, Err: errors.New("the token says that its PIN has expired: set a new one with the tools of the token, and put it into the Secret of pinRef")}
	}
	return fmt.Errorf("logging in to the token: %w", err)
}

// mayTry says by the flags of a token why a PIN is not to be tried.
func mayTry(flags uint, pin string) error {
	switch {
	case pin == "":
		return &signer.CheckError{Reason: reasonPINRequired, Err: errors.New("the token wants a PIN: set ca.key.pinRef")}
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return locked()
	case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return &signer.CheckError{Reason: reasonPINRefused, Err: errors.New("one more wrong PIN would lock the token, so none is tried: log in once with the tools of the token, which resets its counter")}
	}
	return nil
}

func refusedPIN() error {
	return &signer.CheckError{Reason: reasonPINRefused, Err: errors.New("the token refused the PIN, which is not tried again, as tokens lock themselves: put the right one into the Secret of pinRef; " +
		"if it was the token's PIN that was wrong, restart the signer after it was changed")}
}

func locked() error {
	return &signer.CheckError{Reason: reasonTokenLocked, Err: errors.New("the token has locked its PIN: unlock it with its security officer's PIN")}
}
