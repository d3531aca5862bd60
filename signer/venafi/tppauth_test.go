// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/venafi/venafitest"
)

// Whoever logs in, the token is used as long as it is good, and once again after it is refused.
func TestTPPLogsIn(t *testing.T) {
	s := venafitest.NewTPP(t)
	key := signertest.Key(t, "ECDSA-P256")
	certificate := newClientCertificate(t, key)
	s.AllowClient(certificate)
	for name, data := range map[string]map[string]string{
		"password":      {"username": venafitest.TPPUser, "password": venafitest.TPPPassword},
		"refresh token": {"refresh-token": s.RefreshToken()},
		"certificate":   {"tls.crt": pemBlock("CERTIFICATE", certificate), "tls.key": pemKey(t, key)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, secret("tpp", data))
			b := w.backend(tppConfig(s), w.clock)
			before := s.Logins()
			for range 3 {
				mustSign(t, b, request(t, dns("web.example.com")))
			}
			if n := s.Logins() - before; n != 1 {
				t.Errorf("%d logins for 3 requests", n)
			}
			s.RevokeAll()
			mustSign(t, b, request(t, dns("web.example.com")))
			if n := s.Logins() - before; n != 2 {
				t.Errorf("%d logins after the token was revoked", n)
			}
			w.clock.SetTime(time.Now().Add(46 * time.Minute)) // of the token's hour
			mustSign(t, b, request(t, dns("web.example.com")))
			if n := s.Logins() - before; n != 3 {
				t.Errorf("%d logins when the token was about to expire", n)
			}
			if err := b.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A wrong password that is tried again and again locks the account, for everybody who uses it.
func TestTPPWrongPasswordLocksNoAccount(t *testing.T) {
	s := venafitest.NewTPP(t)
	w := newWorld(t, secret("tpp", map[string]string{"username": venafitest.TPPUser, "password": "wrong"}))
	b := w.backend(tppConfig(s), w.clock)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			signertest.WantError(t, b.Check(t.Context()), "CredentialsRefused", "or when the Secret changes")
		})
	}
	all.Wait()
	if n := s.Refusals(); n != 1 {
		t.Fatalf("the password was shown %d times at once", n)
	}
	for range 30 * 60 / 5 {
		w.clock.Step(5 * time.Second)
		_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
		signertest.WantError(t, err, "CredentialsRefused", "not valid")
	}
	if n := s.Refusals(); n != 3 {
		t.Errorf("the password was shown %d times in half an hour, want 3: now, after 5 and after 10 more minutes", n)
	}
	w.set("tpp", map[string]string{"username": venafitest.TPPUser, "password": venafitest.TPPPassword})
	mustSign(t, b, request(t, dns("web.example.com")))
}

func TestTPPAccessToken(t *testing.T) {
	s := venafitest.NewTPP(t)
	w := newWorld(t, secret("tpp", map[string]string{"access-token": s.AccessToken()}))
	b := w.backend(tppConfig(s), w.clock)
	mustSign(t, b, request(t, dns("web.example.com")))
	s.RevokeAll()
	_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
	signertest.WantError(t, err, "CredentialsRefused", "put a new one")
	w.set("tpp", map[string]string{"access-token": s.AccessToken()})
	mustSign(t, b, request(t, dns("web.example.com")))
	if s.Logins() != 0 || w.hasOwnSecret() {
		t.Error("an access token needs no login")
	}
}

// Each refresh token is good for one use: the next one outlives the process.
func TestTPPKeepsRefreshToken(t *testing.T) {
	s := venafitest.NewTPP(t)
	brought := s.RefreshToken()
	w := newWorld(t, secret("tpp", map[string]string{"refresh-token": brought}))
	mustSign(t, w.backend(tppConfig(s), w.clock), request(t, dns("web.example.com")))
	kept := string(w.secret(ownSecret).Data["refresh-token"])
	if kept == "" || kept == brought {
		t.Fatalf("the own Secret holds %q", w.secret(ownSecret).Data)
	}
	if strings.Contains(string(w.secret(ownSecret).Data["refresh-token-of"]), brought) {
		t.Error("the own Secret says which token was brought")
	}
	mustSign(t, w.backend(tppConfig(s), w.clock), request(t, dns("web.example.com")))
	if now := string(w.secret(ownSecret).Data["refresh-token"]); now == kept {
		t.Error("the refresh token was used and not replaced")
	}

	w.set("tpp", map[string]string{"refresh-token": "worthless"})
	err := w.backend(tppConfig(s), w.clock).Check(t.Context())
	signertest.WantError(t, err, "CredentialsRefused", "Refresh token is not valid")
	if strings.Contains(err.Error(), "worthless") {
		t.Error("the error holds the token")
	}
	w.set("tpp", map[string]string{"refresh-token": s.RefreshToken()})
	mustSign(t, w.backend(tppConfig(s), w.clock), request(t, dns("web.example.com")))
}

// A refresh token that cannot be written is used from memory, a person is told, and it is written as soon as that works.
func TestTPPRefreshTokenNotWritten(t *testing.T) {
	s := venafitest.NewTPP(t)
	w := newWorld(t, secret("tpp", map[string]string{"refresh-token": s.RefreshToken()}))
	w.fail = errors.New("the API server is down")
	b := w.backend(tppConfig(s), w.clock)
	mustSign(t, b, request(t, dns("web.example.com")))
	err := b.Check(t.Context())
	signertest.WantError(t, err, "RefreshTokenNotSaved", "the API server is down")
	var check *signer.CheckError
	if errors.As(err, &check) && !check.Signs {
		t.Error("it signs all the same")
	}
	s.RevokeAll()
	mustSign(t, b, request(t, dns("web.example.com")))
	w.fail = nil
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	mustSign(t, w.backend(tppConfig(s), w.clock), request(t, dns("web.example.com")))
}
