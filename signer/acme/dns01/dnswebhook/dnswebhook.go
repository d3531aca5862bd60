// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dnswebhook has the TXT records of challenges written by a program that serves the contract of docs/dns-webhook.md, over
// HTTPS or over a Unix socket in the signer's pod.
package dnswebhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/contract"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
	"github.com/certwright/certwright/signer/remote"
)

// timeout of one call. The caller's context may be shorter.
const timeout = 30 * time.Second

// socket matches the URL of a Unix socket.
var socket = regexp.MustCompile(`^unix://(/.+)$`)

// Writer asks one program. It is safe for concurrent use.
type Writer struct {
	name    string // of the program, for people
	base    string
	client  *http.Client
	token   *v1alpha1.SecretKeyRef
	secrets remote.Secrets
	config  map[string]string
}

var (
	_ txt.Writer  = (*Writer)(nil)
	_ txt.Checker = (*Writer)(nil)
)

// New returns a writer. It does no I/O; the error is about the configuration and names the field below dns01.webhook. The
// token is read anew for each call.
func New(config v1alpha1.DNSWebhook, secrets remote.Secrets) (*Writer, error) {
	w := &Writer{name: config.URL, token: config.TokenRef, secrets: secrets, config: config.Config}
	if w.token != nil {
		if err := remote.CheckRef(*w.token, "tokenRef"); err != nil {
			return nil, err
		}
	}
	if path := socket.FindStringSubmatch(config.URL); path != nil {
		w.base, w.client = "http://socket", unixClient(path[1])
		return w, nil
	}
	if w.token == nil {
		return nil, errors.New("tokenRef: it must be set for an https URL, as who reaches the program could write records")
	}
	base, err := remote.BaseURL(config.URL, "url")
	if err != nil {
		return nil, err
	}
	if w.client, err = remote.HTTPClient(v1alpha1.Server{URL: config.URL, CABundle: config.CABundle}, remote.Options{}); err != nil {
		return nil, err
	}
	w.base, w.client.Timeout = base.String(), timeout
	w.client.CheckRedirect = noRedirects
	return w, nil
}

func unixClient(path string) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: noRedirects,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
			MaxIdleConns:           4,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: contract.MaxBody,
		},
	}
}

// noRedirects makes a redirect the answer: the contract has none.
func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Present implements txt.Writer.
func (w *Writer) Present(ctx context.Context, record txt.Record) error {
	return w.call(ctx, contract.PathPresent, record)
}

// CleanUp implements txt.Writer.
func (w *Writer) CleanUp(ctx context.Context, record txt.Record) error {
	return w.call(ctx, contract.PathCleanUp, record)
}

// Check implements txt.Checker.
func (w *Writer) Check(ctx context.Context) error {
	return w.call(ctx, contract.PathCheck, txt.Record{})
}

// Close closes idle connections.
func (w *Writer) Close() error {
	w.client.CloseIdleConnections()
	return nil
}

func (w *Writer) call(ctx context.Context, path string, record txt.Record) error {
	body, err := json.Marshal(contract.Request{Version: contract.Version, Record: record, Config: w.config})
	if err != nil {
		return fmt.Errorf("writing a request to DNS webhook %s: %w", w.name, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("writing a request to DNS webhook %s: %w", w.name, err)
	}
	request.Header.Set("Content-Type", "application/json")
	if w.token != nil {
		token, err := w.secrets.Entry(ctx, *w.token)
		if err != nil {
			return &txt.ConfigError{Err: fmt.Errorf("reading the token of DNS webhook %s: %w", w.name, err)}
		}
		request.Header.Set("Authorization", "Bearer "+string(token))
	}
	response, err := w.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking DNS webhook %s: %w", w.name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, contract.MaxBody))
	if err != nil {
		return fmt.Errorf("reading the answer of DNS webhook %s: %w", w.name, err)
	}
	return w.judge(response.StatusCode, text)
}

// judge turns an answer into an error, or nil if all was done.
func (w *Writer) judge(status int, text []byte) error {
	var answer contract.Answer
	speaks := json.Unmarshal(text, &answer) == nil && answer.Version == contract.Version
	words := remote.Bound(answer.Error)
	switch {
	case status == contract.StatusDone && speaks && words == "":
		return nil
	case status == contract.StatusMisconfigured && speaks:
		return txt.Misconfigured("DNS webhook %s: %s", w.name, words)
	case status == contract.StatusUnauthorized && w.token != nil:
		return txt.Misconfigured("DNS webhook %s does not accept the token in Secret %s, entry %s: set the one that it knows", w.name, w.token.Name, w.token.Key)
	case status == contract.StatusUnauthorized:
		return txt.Misconfigured("DNS webhook %s wants a token: set dns01.webhook.tokenRef", w.name)
	case status == contract.StatusBadRequest && speaks:
		return txt.Misconfigured("DNS webhook %s does not understand the request: it must serve version %s of the contract: %s", w.name, contract.Version, words)
	case speaks && words != "":
		return fmt.Errorf("DNS webhook %s: %s", w.name, words)
	default:
		return fmt.Errorf("DNS webhook %s answers %d %s: %q is no answer of version %s of the contract: does dns01.webhook.url lead to it?",
			w.name, status, http.StatusText(status), remote.Bound(strings.ToValidUTF8(string(text), "")), contract.Version)
	}
}
