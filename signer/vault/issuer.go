// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/vault/session"
)

const (
	// issuerAge is how long the issuing CA is taken to be what it was.
	issuerAge = time.Minute
	// issuerPause is the time between two attempts to read it while Vault is in trouble.
	issuerPause = 10 * time.Second
)

// issuer knows the CA that the role signs with, and keeps the last one that it saw while Vault cannot tell.
type issuer struct {
	backend *Backend
	// turn is held by who asks Vault.
	turn chan struct{}

	mu    sync.Mutex
	known authority
	next  time.Time // when to ask again
}

// authority is a CA with what is above it, and what the role makes of its certificates.
type authority struct {
	chain []*x509.Certificate // the issuing CA first, without the root unless that is the issuing CA
	root  *x509.Certificate   // nil if Vault does not know it
	gives *x509.Certificate   // subject and usages of all of the role's certificates; nil if the token may not read the role
	read  time.Time
}

func newIssuer(b *Backend) *issuer { return &issuer{backend: b, turn: make(chan struct{}, 1)} }

// get returns the CA as it was seen a moment ago. If Vault cannot tell now, it is the one that was seen last.
func (i *issuer) get(ctx context.Context) (authority, error) {
	known, fresh := i.seen()
	if fresh {
		return known, nil
	}
	if known.chain == nil {
		return i.look(ctx, true)
	}
	select { // there is something to go on with: one asks, and nobody waits
	case i.turn <- struct{}{}:
		defer i.release()
		if read, err := i.read(ctx); err == nil {
			return read, nil
		}
	default:
	}
	return known, nil
}

// look asks Vault, or waits for who is asking and asks no more if what that one saw is good enough.
func (i *issuer) look(ctx context.Context, enough bool) (authority, error) {
	select {
	case i.turn <- struct{}{}:
		defer i.release()
	case <-ctx.Done():
		return authority{}, session.Unanswered(fmt.Errorf("waiting for Vault's issuing CA: %w", ctx.Err()))
	}
	if known, fresh := i.seen(); fresh && enough {
		return known, nil
	}
	return i.read(ctx)
}

// read asks Vault, as the one whose turn it is.
func (i *issuer) read(ctx context.Context) (authority, error) {
	read, err := i.backend.readIssuer(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.backend.clock.Now()
	if err != nil {
		i.next = now.Add(issuerPause)
		return authority{}, session.Unanswered(err)
	}
	i.known, i.next = read, now.Add(issuerAge)
	return read, nil
}

func (i *issuer) release() { <-i.turn }

func (i *issuer) seen() (authority, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known, i.known.chain != nil && i.backend.clock.Now().Before(i.next)
}

// doubt has Vault be asked again at the next call.
func (i *issuer) doubt() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next = time.Time{}
}

// signed reports whether the CA that was seen last signed a certificate.
func (i *issuer) signed(leaf *x509.Certificate) bool {
	known, _ := i.seen()
	return known.chain != nil && signs(known.chain[0], leaf)
}

// notAfter is when the issuing CA expires; zero if that is not known.
func (i *issuer) notAfter() time.Time {
	known, _ := i.seen()
	if known.chain == nil {
		return time.Time{}
	}
	return known.chain[0].NotAfter
}

// readIssuer asks Vault for the CA that the role signs with: the one that the role names, if the token may read the role, or the
// engine's default.
func (b *Backend) readIssuer(ctx context.Context) (authority, error) {
	role, err := b.readRole(ctx)
	if err != nil {
		return authority{}, err
	}
	ref := cmp.Or(role.IssuerRef, "default")
	if checkName(ref, "") != nil {
		return authority{}, session.Trouble(reasonNoIssuer, "Vault's role %q names the issuer %q, which is no plain name", b.role, remote.Bound(ref))
	}
	path := b.mount + "/issuer/" + ref + "/json"
	var answer struct {
		Certificate string   `json:"certificate"`
		CAChain     []string `json:"ca_chain"`
	}
	if err := b.vault.Read(ctx, path, &answer); err != nil {
		return authority{}, b.explainIssuer(err)
	}
	certs, err := parseAll(append([]string{answer.Certificate}, answer.CAChain...))
	if err != nil {
		return authority{}, session.Trouble(reasonNoIssuer, "reading what Vault answered at %s: %w", path, err)
	}
	chain, root := climb(certs[0], certs)
	return authority{chain: chain, root: root, gives: role.gives(), read: b.clock.Now()}, nil
}

// parseAll reads certificates of which each text holds one or more.
func parseAll(texts []string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, text := range texts {
		if text == "" {
			continue
		}
		certs, err := remote.Chain([]byte(text))
		if err != nil {
			return nil, err
		}
		if all = append(all, certs...); len(all) > maxSent {
			return nil, fmt.Errorf("there are more than %d certificates", maxSent)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return all, nil
}

// maxSent is how many certificates Vault may send at once.
const maxSent = 32

// climb follows the issuers of a certificate among those that are given. The chain begins with the certificate and does not hold
// the root, which is nil if it is not there.
func climb(from *x509.Certificate, among []*x509.Certificate) (chain []*x509.Certificate, root *x509.Certificate) {
	chain = []*x509.Certificate{from}
	for at := from; ; {
		if signs(at, at) {
			return chain, at
		}
		up := slices.IndexFunc(among, func(c *x509.Certificate) bool { return signs(c, at) })
		if up < 0 || len(chain) > maxSent {
			return chain, nil
		}
		if at = among[up]; !signs(at, at) {
			chain = append(chain, at)
		}
	}
}

func signs(issuer, c *x509.Certificate) bool {
	return bytes.Equal(issuer.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(issuer) == nil
}
