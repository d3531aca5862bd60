// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/venafi/memory"
)

// Entries of a Secret with credentials.
const (
	keyAccessToken  = "access-token"
	keyRefreshToken = "refresh-token"
	keyUsername     = "username"
	keyPassword     = "password"
	// keyRefreshTokenOf is beside a refresh token in the backend's own Secret: the hash of the one that a person brought and that it
	// descends from. When a person brings another one, that is used.
	keyRefreshTokenOf = "refresh-token-of"
)

// pauseFirst and pauseMax bound the time until credentials that were refused are shown again; it doubles with each refusal.
// Directories lock accounts after some five wrong passwords within half an hour: here it is three.
const (
	pauseFirst = 5 * time.Minute
	pauseMax   = 30 * time.Minute
)

// scope is all that ordering and retrieving certificates needs.
const scope = "certificate:manage"

// tppAuth logs in to TPP and keeps the token.
type tppAuth struct {
	base      *url.URL
	http      *http.Client
	certified *http.Client // shows the client certificate of the credentials
	ref       v1alpha1.SecretRef
	clientID  string
	secrets   remote.Secrets
	own       *memory.Secret
	clock     clock.PassiveClock

	turn chan struct{} // whoever holds it may use what follows, which a login that hangs blocks
	held token
	ban  ban
	// unsaved is a refresh token that could not be written yet; the one before it is worth nothing any more.
	unsaved *savedToken
}

type token struct {
	access string
	of     string    // what it was made from
	until  time.Time // when it should be renewed; zero if nobody knows
}

// ban is on credentials that the server refused.
type ban struct {
	of    string // their hash
	until time.Time
	pause time.Duration
	err   error
}

type savedToken struct{ token, of string }

// credentials are what a person brought: exactly one kind of them.
type credentials struct {
	kind string // the first of its keys
	data map[string]string
	hash string // of all of it
}

// credentials reads the Secret.
func (a *tppAuth) credentials(ctx context.Context) (credentials, error) {
	secret, err := a.secrets.Secret(ctx, a.ref)
	if err != nil {
		return credentials{}, err
	}
	kinds := [][]string{{keyAccessToken}, {keyRefreshToken}, {keyUsername, keyPassword}, {corev1.TLSCertKey, corev1.TLSPrivateKeyKey}}
	var found []credentials
	for _, keys := range kinds {
		c := credentials{kind: keys[0], data: map[string]string{}}
		for _, k := range keys {
			if v := strings.TrimSpace(string(secret.Data[k])); v != "" {
				c.data[k] = v
			}
		}
		if len(c.data) == len(keys) {
			h := sha256.New()
			for _, k := range keys {
				fmt.Fprintf(h, "%d %s %d %s\n", len(k), k, len(c.data[k]), c.data[k])
			}
			c.hash = hex.EncodeToString(h.Sum(nil))
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return credentials{}, checkError(remote.ReasonSecretIncomplete, "Secret %s/%s: it must hold exactly one of access-token; refresh-token; username and password; tls.crt and tls.key; %d are there",
			a.secrets.Namespace, a.ref.Name, len(found))
	}
	return found[0], nil
}

// token returns a token that is not the refused one, which may be empty. It logs in if need be.
func (a *tppAuth) token(ctx context.Context, refused string) (string, error) {
	c, err := a.credentials(ctx)
	if err != nil {
		return "", err
	}
	if c.kind == keyAccessToken {
		if c.data[keyAccessToken] == refused {
			return "", checkError(reasonCredentialsRefused, "Secret %s/%s: the server refuses the access-token: put a new one", a.secrets.Namespace, a.ref.Name)
		}
		return c.data[keyAccessToken], nil
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	fresh := a.held.until.IsZero() || a.clock.Now().Before(a.held.until)
	if a.held.access != "" && a.held.access != refused && a.held.of == c.hash && fresh {
		return a.held.access, nil
	}
	if a.ban.of == c.hash && a.clock.Now().Before(a.ban.until) {
		return "", a.ban.err
	}
	held, err := a.login(ctx, c)
	if err != nil {
		return "", err
	}
	a.held, a.ban = held, ban{}
	return held.access, nil
}

// tokenAnswer is that of all ways to log in. Expires is in seconds since 1970.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Expires      int64  `json:"expires"`
}

func (a *tppAuth) login(ctx context.Context, c credentials) (token, error) {
	in := map[string]string{"client_id": a.clientID}
	path, client, saved := "", a.http, ""
	switch c.kind {
	case keyRefreshToken:
		var err error
		if saved, err = a.refreshToken(ctx, c); err != nil {
			return token{}, err
		}
		path, in["refresh_token"] = "token", saved
	case keyUsername:
		path, in["username"], in["password"], in["scope"] = "oauth", c.data[keyUsername], c.data[keyPassword], scope
	default:
		path, client, in["scope"] = "certificate", a.certified, scope
	}
	got, err := call{client: client, method: http.MethodPost, url: a.base.JoinPath("vedauth", "authorize", path), in: in}.do(ctx)
	if err != nil {
		return token{}, fmt.Errorf("logging in: %w", err)
	}
	var t tokenAnswer
	if err := got.decode(&t, http.StatusOK); err != nil {
		var r *refusal
		if errors.As(err, &r) && slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized}, r.status) {
			return token{}, a.refused(c, r)
		}
		return token{}, fmt.Errorf("logging in: %w", err)
	}
	if t.AccessToken == "" {
		return token{}, errors.New("logging in: the server's answer holds no access_token")
	}
	if c.kind == keyRefreshToken && t.RefreshToken != "" && t.RefreshToken != saved {
		a.unsaved = &savedToken{token: t.RefreshToken, of: c.hash}
		_ = a.save(ctx) // unsavedError and the next login try again
	}
	return token{access: t.AccessToken, of: c.hash, until: a.renewAt(t.Expires)}, nil
}

// refused bans credentials, so that a wrong password does not lock the account.
func (a *tppAuth) refused(c credentials, r *refusal) error {
	next := ban{of: c.hash, pause: pauseFirst}
	if a.ban.of == c.hash {
		next.pause = min(2*a.ban.pause, pauseMax)
	}
	next.until = a.clock.Now().Add(next.pause)
	next.err = checkError(reasonCredentialsRefused, "logging in with the %s of Secret %s/%s for the API integration %q: %w; so as not to lock the account, this is tried again at %s, or when the Secret changes",
		c.kind, a.secrets.Namespace, a.ref.Name, a.clientID, r, next.until.UTC().Format(time.TimeOnly+" UTC"))
	a.ban = next
	return next.err
}

// renewAt is when three quarters of a token's life are over.
func (a *tppAuth) renewAt(expires int64) time.Time {
	now := a.clock.Now()
	end := time.Unix(expires, 0)
	if expires == 0 || !end.After(now) {
		return time.Time{} // a 401 will tell
	}
	return now.Add(end.Sub(now) * 3 / 4)
}

// refreshToken returns the newest one: each is good for one use.
func (a *tppAuth) refreshToken(ctx context.Context, c credentials) (string, error) {
	if a.unsaved != nil && a.unsaved.of == c.hash {
		return a.unsaved.token, nil
	}
	data, err := a.own.Read(ctx)
	if err != nil {
		return "", err
	}
	if t := string(data[keyRefreshToken]); t != "" && string(data[keyRefreshTokenOf]) == c.hash {
		return t, nil
	}
	return c.data[keyRefreshToken], nil
}

// save writes the newest refresh token, so that it outlives this process.
func (a *tppAuth) save(ctx context.Context) error {
	if a.unsaved == nil {
		return nil
	}
	err := a.own.Change(ctx, func(data map[string][]byte) error {
		data[keyRefreshToken], data[keyRefreshTokenOf] = []byte(a.unsaved.token), []byte(a.unsaved.of)
		return nil
	})
	if err != nil {
		return err
	}
	a.unsaved = nil
	return nil
}

// saved tries to write a refresh token that could not be written before.
func (a *tppAuth) saved(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return a.save(ctx)
}
