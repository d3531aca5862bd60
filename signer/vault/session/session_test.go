// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

func TestWords(t *testing.T) {
	for name, c := range map[string]struct {
		reasons, secrets []string
		want             string
	}{
		"one":          {[]string{"permission denied"}, nil, "permission denied"},
		"with a count": {[]string{"1 error occurred:\n\t* invalid request\n\n"}, nil, "invalid request"},
		"two":          {[]string{"a", "b"}, nil, "a; b"},
		"none":         {nil, nil, ""},
		"a secret":     {[]string{"token hvs.x is bad: hvs.x"}, []string{"hvs.x"}, "token [redacted] is bad: [redacted]"},
		"a secret where the text is cut": {
			[]string{strings.Repeat("x", 295) + "hvs.0123456789"}, []string{"hvs.0123456789"}, strings.Repeat("x", 295) + "[r…",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := remote.Bound(words(c.reasons, c.secrets)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// How long a login lives is for Vault to say, and may be nonsense.
func TestLease(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		seconds    int64
		valid, due time.Duration // from now; negative for never
	}{
		"an hour":       {3600, time.Hour, 40 * time.Minute},
		"for ever":      {0, -1, -1},
		"less than now": {-5, -1, -1},
		"too long":      {math.MaxInt64, 10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour * 2 / 3},
	} {
		t.Run(name, func(t *testing.T) {
			l := lease("x", true, c.seconds, now)
			if c.valid < 0 {
				if !l.valid(now.Add(math.MaxInt64)) || !l.due.IsZero() {
					t.Errorf("got %+v, want one without an end", l)
				}
				return
			}
			if !l.valid(now.Add(c.valid-1)) || l.valid(now.Add(c.valid)) || !l.due.Equal(now.Add(c.due)) {
				t.Errorf("got %+v, want one that ends after %s and is due after %s", l, c.valid, c.due)
			}
		})
	}
	if (token{}).valid(now) {
		t.Error("no token is a valid one")
	}
}

func TestPauseGrows(t *testing.T) {
	now := time.Now()
	var p pause
	for _, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
		if p = p.after(now, [sha256.Size]byte{}, nil, usual); p.until.Sub(now) != want*time.Second {
			t.Errorf("the pause is %s, want %ds", p.until.Sub(now), want)
		}
	}
	p = pause{}
	for _, want := range []time.Duration{5, 60, 12 * 60, 30 * 60, 30 * 60} {
		if p = p.after(now, [sha256.Size]byte{}, nil, rare); p.until.Sub(now) != want*time.Second {
			t.Errorf("the pause after a wrong secret ID is %s, want %ds", p.until.Sub(now), want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	seen := map[[sha256.Size]byte]credentials{}
	for _, c := range []credentials{
		{}, {token: "a"}, {path: "a"}, {body: loginBody{JWT: "a"}}, {body: loginBody{SecretID: "a"}}, {body: loginBody{Role: "a"}}, {shown: []byte("a")},
	} {
		if other, same := seen[c.fingerprint()]; same {
			t.Errorf("%+v and %+v have the same fingerprint", c, other)
		}
		seen[c.fingerprint()] = c
	}
}

// An answer to a login is none to the call that needed it.
func TestSaid(t *testing.T) {
	no := &AnswerError{Path: "pki/sign/web", Code: 403, Words: "permission denied"}
	if got := Said(fmt.Errorf("signing: %w", no)); got != no || Status(no) != 403 {
		t.Errorf("got %v and the status %d", got, Status(no))
	}
	for _, err := range []error{nil, errors.New("no answer"), loginError(no), &signer.CheckError{Reason: "X", Err: no}} {
		if Said(err) != nil || Status(err) != 0 {
			t.Errorf("%v is taken for an answer to the call", err)
		}
	}
}

func TestTroubleHasAReason(t *testing.T) {
	for _, c := range []struct {
		code          int
		words, reason string
	}{
		{400, "x", ReasonLoginFailed},
		{403, "permission denied", ReasonLoginFailed},
		{404, "", ReasonLoginFailed},
		{500, "invalid secret id", ReasonLoginFailed},
		{500, "", ReasonUnavailable},
		{502, "", ReasonUnavailable},
		{429, "quota", ReasonRateLimited},
		{472, "", ReasonNotReady},
		{473, "", ReasonNotReady},
		{503, "Vault is sealed", ReasonSealed},
		{503, "", ReasonUnavailable},
	} {
		var fault *signer.CheckError
		if err := loginError(&AnswerError{Path: "auth/approle/login", Code: c.code, Words: c.words}); !errors.As(err, &fault) || fault.Reason != c.reason {
			t.Errorf("status %d and %q: got the error %v, want one of reason %s", c.code, c.words, err, c.reason)
		}
	}
}
