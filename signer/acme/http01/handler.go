// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package http01

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/order"
)

// Answers finds the answer to the challenge of a token at a host. Its error is order.ErrUnknownToken if there is none.
type Answers interface {
	KeyAuthorization(ctx context.Context, host, token string) (string, error)
}

// Handler returns what answers challenges. Anybody can reach it: it looks at no more than the method, the host and the path,
// and keeps nothing.
func Handler(answers Answers) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		token, found := strings.CutPrefix(r.URL.Path, pathPrefix)
		host, ok := hostname(r.Host)
		if !found || !ok || !challenge.LegalToken(token) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer, err := answers.KeyAuthorization(r.Context(), host, token)
		switch {
		case errors.Is(err, order.ErrUnknownToken):
			w.WriteHeader(http.StatusNotFound)
		case err != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, answer) //nolint:gosec // of a stored token in base64url, as plain text
		}
	})
}

// NewServer returns a server for the handler, with limits that keep those who can reach it from using it up.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
	}
}

// hostname is the host that a request is for, in lower case and without a port.
func hostname(host string) (string, bool) {
	if len(host) > 300 {
		return "", false
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	}
	return host, host != ""
}
