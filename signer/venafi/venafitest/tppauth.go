// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafitest

import (
	"crypto/rand"
	"net/http"
	"time"
)

func (s *TPP) newAccess() string {
	t := "access-" + rand.Text()
	s.access[t] = time.Now().Add(s.life)
	return t
}

func (s *TPP) newRefresh() string {
	t := "refresh-" + rand.Text()
	s.refresh[t] = true
	return t
}

// grant answers with new tokens. The lock is held.
func (s *TPP) grant(w http.ResponseWriter) {
	s.logins++
	access := s.newAccess()
	write(w, http.StatusOK, map[string]any{
		"access_token": access, "refresh_token": s.newRefresh(), "expires": s.access[access].Unix(), "token_type": "Bearer",
		"identity": "local:{a8b0f5a1-6c2c-4a0f-8ae3-4a6c0e0a1f53}", "scope": tppScope, "refresh_until": time.Now().Add(90 * 24 * time.Hour).Unix(),
	})
}

// noGrant refuses a login. The lock is held.
func (s *TPP) noGrant(w http.ResponseWriter, code, description string) {
	s.refusals++
	write(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
}

func (s *TPP) oauth(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClientID string `json:"client_id"`
		Username string `json:"username"`
		Password string `json:"password"`
		Scope    string `json:"scope"`
	}
	err := read(r, &in)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.noGrant(w, "invalid_request", err.Error())
	case in.ClientID != TPPClientID:
		s.noGrant(w, "invalid_client", "Application with the client ID "+in.ClientID+" does not exist")
	case in.Username != TPPUser || in.Password != TPPPassword:
		s.noGrant(w, "invalid_grant", "Username\\password combination not valid")
	case in.Scope != tppScope || s.noScope:
		writeLine(w, http.StatusForbidden, "Failed to issue grant: User is not authorized for the requested scope")
	default:
		s.grant(w)
	}
}

func (s *TPP) certificate(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClientID string `json:"client_id"`
		Scope    string `json:"scope"`
	}
	err := read(r, &in)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.noGrant(w, "invalid_request", err.Error())
	case in.ClientID != TPPClientID || in.Scope != tppScope:
		s.noGrant(w, "invalid_client", "Application or scope not valid")
	case len(r.TLS.PeerCertificates) == 0 || !s.clients[string(r.TLS.PeerCertificates[0].Raw)]:
		s.noGrant(w, "invalid_grant", "Client certificate is not mapped to an identity")
	default:
		s.grant(w)
	}
}

func (s *TPP) token(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClientID     string `json:"client_id"`
		RefreshToken string `json:"refresh_token"`
	}
	err := read(r, &in)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.noGrant(w, "invalid_request", err.Error())
	case in.ClientID != TPPClientID:
		s.noGrant(w, "invalid_client", "Application with the client ID "+in.ClientID+" does not exist")
	case !s.refresh[in.RefreshToken]:
		s.noGrant(w, "invalid_grant", "Refresh token is not valid")
	default:
		delete(s.refresh, in.RefreshToken)
		s.grant(w)
	}
}
