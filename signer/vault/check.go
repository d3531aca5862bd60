// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/x509"
	"net/http"
	"slices"
	"time"

	"github.com/certwright/certwright/signer/vault/session"
)

// Check implements signer.Checker: Vault is up and unsealed, the login works, its policy allows the role to be used, and the
// issuing CA is there and valid.
func (b *Backend) Check(ctx context.Context) error {
	if err := b.health(ctx); err != nil {
		return err
	}
	if err := b.permitted(ctx); err != nil {
		return err
	}
	a, err := b.issuer.look(ctx, false)
	if err != nil {
		return err
	}
	if end := a.chain[0].NotAfter; !b.clock.Now().Before(end) {
		return expired(end)
	}
	return nil
}

// health asks whether Vault could serve. A standby that forwards can.
func (b *Backend) health(ctx context.Context) error {
	code, err := b.vault.Health(ctx)
	if err != nil {
		return session.Unanswered(err)
	}
	switch code {
	case http.StatusOK, http.StatusTooManyRequests, session.StatusStandby: // active, standby, performance standby
		return nil
	case session.StatusNotInitialized:
		return session.Trouble(session.ReasonNotReady, "Vault is not initialized: initialize and unseal it")
	case session.StatusSecondary:
		return session.Trouble(session.ReasonNotReady, "Vault is a secondary of disaster recovery: let vault.url lead to the primary")
	case http.StatusServiceUnavailable:
		return session.Trouble(session.ReasonSealed, "Vault is sealed: unseal it")
	}
	return session.Trouble(session.ReasonUnavailable, "Vault answered %d at sys/health", code)
}

// permitted asks what the token may do at the path that signs.
func (b *Backend) permitted(ctx context.Context) error {
	var answer struct {
		Capabilities []string `json:"capabilities"`
	}
	path := b.path("sign")
	err := b.vault.Call(ctx, http.MethodPost, "sys/capabilities-self", map[string][]string{"paths": {path}}, &answer)
	if session.Status(err) == http.StatusForbidden {
		return session.Trouble(reasonTokenRefused, "%w: the token was revoked or has expired, or its policies do not allow update on sys/capabilities-self, as the policy default does", err)
	}
	if err != nil {
		return b.explain(err)
	}
	if !slices.ContainsFunc(answer.Capabilities, func(c string) bool { return c == "update" || c == "root" }) {
		return session.Trouble(reasonDenied, "Vault's policy for this login does not allow update on %s: %q is what it allows", path, answer.Capabilities)
	}
	return nil
}

// TrustAnchors implements signer.TrustAnchorer: the root above the CA that the role signs with. It is the one that was seen last
// while Vault cannot tell.
func (b *Backend) TrustAnchors(ctx context.Context) ([]*x509.Certificate, error) {
	a, err := b.issuer.get(ctx)
	if err != nil {
		return nil, err
	}
	if a.root == nil {
		return nil, session.Trouble(reasonRootUnknown, "Vault does not know the root above its CA %q: import it to %s/issuers/import/cert, or set the backend's trustAnchors", a.chain[0].Subject, b.mount)
	}
	return []*x509.Certificate{a.root}, nil
}

// NotAfter implements signer.Expirer: when the first certificate of the chain expires, the root included.
func (b *Backend) NotAfter(ctx context.Context) (time.Time, error) {
	a, err := b.issuer.get(ctx)
	if err != nil {
		return time.Time{}, err
	}
	end := a.chain[0].NotAfter
	for _, c := range append(slices.Clone(a.chain), a.root) {
		if c != nil && c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end, nil
}

// explainIssuer says what a failed call to read the issuing CA means, which needs no token.
func (b *Backend) explainIssuer(err error) error {
	switch code := session.Status(err); {
	case code == http.StatusForbidden || code == http.StatusNotFound:
		return session.Trouble(reasonPathNotFound, "%w: is a PKI secrets engine mounted at %q, in that namespace?", err, b.mount)
	case code != 0 && session.Said(err).Refused():
		return session.Trouble(reasonNoIssuer, "%w: the PKI secrets engine at %s needs a CA", err, b.mount)
	}
	return b.explain(err)
}

func expired(at time.Time) error {
	return session.Trouble(reasonCAExpired, "Vault's issuing CA expired at %s: renew it", at.UTC().Format(time.RFC3339))
}
