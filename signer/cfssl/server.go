// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/cloudflare/cfssl/auth"
	"github.com/cloudflare/cfssl/info"

	"github.com/certwright/certwright/signer/remote"
)

// answer is what every endpoint of cfssl returns.
type answer struct {
	Success bool            `json:"success"`
	Result  json.RawMessage `json:"result"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
}

// info asks for the CA certificate and the profile.
func (b *Backend) info(ctx context.Context) (*info.Resp, error) {
	body, err := json.Marshal(info.Req{Label: b.config.Label, Profile: b.config.Profile})
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	var told info.Resp
	if err := b.post(ctx, "info", body, &told); err != nil {
		return nil, fmt.Errorf("asking the server for its CA certificate: %w", err)
	}
	return &told, nil
}

// authSign has the server sign.
func (b *Backend) authSign(ctx context.Context, req signRequest) (*x509.Certificate, error) {
	body, err := b.authenticate(ctx, req)
	if err != nil {
		return nil, err
	}
	var made struct {
		Certificate string `json:"certificate"`
	}
	if err := b.post(ctx, "authsign", body, &made); err != nil {
		err = fmt.Errorf("having the server sign: %w", err)
		var refused *refusal
		if !errors.As(err, &refused) {
			return nil, err
		}
		return nil, refused.verdict(err)
	}
	certs, err := remote.Chain([]byte(made.Certificate))
	if err != nil {
		return nil, fmt.Errorf("the certificate that the server signed: %w", err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("the server returned %d certificates, not one", len(certs))
	}
	return certs[0], nil
}

// probe sends a request without content: a server that misses the content has accepted label, profile and key.
func (b *Backend) probe(ctx context.Context) error {
	body, err := b.authenticate(ctx, signRequest{Profile: b.config.Profile, Label: b.config.Label})
	if err != nil {
		return err
	}
	err = b.post(ctx, "authsign", body, nil)
	var refused *refusal
	switch {
	case err == nil:
		return errors.New("the server signed a request without content: that is no cfssl server")
	case errors.As(err, &refused) && (refused.message == "missing parameter 'certificate_request'" || refused.message == "invalid request"):
		return nil
	default:
		return fmt.Errorf("trying whether the server would sign: %w", err)
	}
}

// authenticate encodes a request with its HMAC.
func (b *Backend) authenticate(ctx context.Context, req signRequest) ([]byte, error) {
	key, err := b.secrets.Entry(ctx, b.config.AuthKeyRef)
	if err != nil {
		return nil, err
	}
	// What is not in hexadecimal digits would be the name of a file or of a variable of this process to cfssl's library.
	if n, err := hex.DecodeString(string(key)); err != nil || len(n) == 0 {
		return nil, checkError(remote.ReasonSecretInvalid, "Secret %s/%s: the entry %q is not a key in hexadecimal digits, such as openssl rand -hex 32 makes",
			b.secrets.Namespace, b.config.AuthKeyRef.Name, b.config.AuthKeyRef.Key)
	}
	provider, err := auth.New(string(key), nil)
	if err != nil {
		return nil, errors.New("the key for authenticated signing cannot be used")
	}
	inner, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	token, err := provider.Token(inner)
	if err != nil {
		return nil, errors.New("the key for authenticated signing cannot be used")
	}
	return json.Marshal(auth.AuthenticatedRequest{Timestamp: b.clock.Now().Unix(), Token: token, Request: inner})
}

// post calls an endpoint. The error is a *refusal or wraps one if the server gave a reason of its own.
func (b *Backend) post(ctx context.Context, endpoint string, body []byte, result any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.base.JoinPath("api/v1/cfssl", endpoint).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header["Idempotency-Key"] = nil // not sent; net/http may ask again on a new connection, as signing twice is safe
	resp, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return b.notCFSSL(resp.StatusCode, endpoint)
	}
	if resp.StatusCode != http.StatusOK || !a.Success {
		if len(a.Errors) == 0 {
			return b.notCFSSL(resp.StatusCode, endpoint)
		}
		return (&refusal{status: resp.StatusCode, code: a.Errors[0].Code, message: a.Errors[0].Message}).explained()
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(a.Result, result); err != nil {
		return fmt.Errorf("the server's answer is not that of cfssl's %s: %w", endpoint, err)
	}
	return nil
}

// notCFSSL is for answers that cfssl does not give.
func (b *Backend) notCFSSL(status int, endpoint string) error {
	if status == http.StatusNotFound {
		return checkError(reasonEndpointMissing, "the server has no endpoint %s: it must be a cfssl or multirootca server, have a profile with an auth_key, and not be started with -disable %s", endpoint, endpoint)
	}
	return fmt.Errorf("the server answers with status %d and something that cfssl would not say", status)
}
