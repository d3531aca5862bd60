// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

// api speaks Vault's HTTP API. Its client library would be no help: it takes addresses, tokens and more from the environment,
// and repeats calls on its own.
type api struct {
	client    *http.Client
	base      *url.URL
	namespace string
}

func newAPI(config v1alpha1.Vault, m method) (*api, error) {
	base, err := remote.BaseURL(config.URL, "vault.url")
	if err != nil {
		return nil, err
	}
	options := remote.Options{Field: "vault"}
	if c, ok := m.(certificateMethod); ok {
		options.Certificate = c.certificate
	}
	client, err := remote.HTTPClient(config.Server, options)
	return &api{client: client, base: base, namespace: config.Namespace}, err
}

// What Vault answers when it is not initialized, a secondary for disaster recovery, or a performance standby.
const (
	StatusNotInitialized = 501
	StatusSecondary      = 472
	StatusStandby        = 473
)

// AnswerError is an answer of Vault's that says no.
type AnswerError struct {
	// Path that was called, below /v1/.
	Path string
	// Code is the HTTP status.
	Code int
	// Words are Vault's own, on one line of any length: remote.Bound before they are quoted. Empty if it said nothing.
	Words string
}

func (e *AnswerError) Error() string {
	if e.Words == "" {
		return fmt.Sprintf("Vault answered %d at %s", e.Code, e.Path)
	}
	return fmt.Sprintf("Vault answered %d at %s: %s", e.Code, e.Path, remote.Bound(e.Words))
}

// Said returns Vault's answer to what was asked of it, or nil if the error is another one, such as that of the login before.
func Said(err error) *AnswerError {
	var explained *signer.CheckError
	var e *AnswerError
	if errors.As(err, &explained) || !errors.As(err, &e) {
		return nil
	}
	return e
}

// Status returns the HTTP status of an answer that says no, or 0 if there was none.
func Status(err error) int {
	if e := Said(err); e != nil {
		return e.Code
	}
	return 0
}

// away reports whether the server can do nothing for anybody at the moment: it is sealed, or a standby.
func (e *AnswerError) away() bool {
	return e.Code == http.StatusServiceUnavailable || e.Code == StatusSecondary || e.Code == StatusStandby
}

// Refused reports whether the answer lays the blame on who asked: 4xx, but for what a busy or standby server answers.
func (e *AnswerError) Refused() bool {
	return e.Code/100 == 4 && e.Code != http.StatusTooManyRequests && !e.away()
}

// refusedLogin is Refused for a login. For an unknown secret ID some versions answer 500.
func (e *AnswerError) refusedLogin() bool {
	return e.Refused() || e.Code == http.StatusInternalServerError && e.Words != ""
}

// judged is refusedLogin for credentials that Vault looked at: not where there is no such auth method, or its policy forbids it.
func (e *AnswerError) judged() bool {
	return e.refusedLogin() && e.Code != http.StatusNotFound && e.Code != http.StatusForbidden
}

// answer is the form of everything that Vault says.
type answer struct {
	Data   json.RawMessage `json:"data"`
	Auth   *auth           `json:"auth"`
	Errors []string        `json:"errors"`
}

// auth is what a login or its renewal grants.
type auth struct {
	ClientToken   string `json:"client_token"`
	LeaseDuration int64  `json:"lease_duration"` // in seconds, 0 for one that never ends
	Renewable     bool   `json:"renewable"`
}

// call reads or writes a path, with a token unless that is empty, and decodes the answer's data into out, which may be nil,
// or its auth if out is an *auth. The error is an *AnswerError if Vault answered, and did not do it.
func (a *api) call(ctx context.Context, verb, path, token string, in, out any) error {
	got, err := a.send(ctx, verb, path, token, in)
	if err != nil {
		return err
	}
	if granted, ok := out.(*auth); ok {
		if got.Auth == nil || got.Auth.ClientToken == "" {
			return fmt.Errorf("reading what Vault answered at %s: it holds no token", path)
		}
		*granted = *got.Auth
		return nil
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(got.Data, out); err != nil {
		return fmt.Errorf("reading what Vault answered at %s: its data are not what they should be", path)
	}
	return nil
}

func (a *api) send(ctx context.Context, verb, path, token string, in any) (answer, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return answer{}, fmt.Errorf("encoding a request for %s: %w", path, err)
		}
	}
	resp, err := a.request(ctx, verb, "v1/"+path, a.namespace, token, body)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("reading what Vault answered at %s: %w", path, err)
	}
	var got answer
	err = json.Unmarshal(text, &got)
	if resp.StatusCode/100 != 2 {
		return answer{}, &AnswerError{Path: path, Code: resp.StatusCode, Words: words(got.Errors, secretsOf(token, in))}
	}
	if err != nil && len(text) > 0 {
		return answer{}, fmt.Errorf("reading what Vault answered at %s: it is not JSON", path)
	}
	return got, nil
}

func (a *api) request(ctx context.Context, verb, path, namespace, token string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, verb, a.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("building a request for %s: %w", path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Request", "true") // what a Vault proxy may ask for
	if namespace != "" {
		req.Header.Set("X-Vault-Namespace", namespace)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	return a.client.Do(req)
}

// preamble is what Vault puts before some of its reasons.
var preamble = regexp.MustCompile(`^[0-9]+ errors? occurred: \* `)

// words puts Vault's reasons on one line, without what it was told in confidence.
func words(reasons, secrets []string) string {
	text := strings.Join(reasons, "; ")
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return preamble.ReplaceAllString(remote.Line(text), "")
}

// secretsOf returns what a call tells Vault in confidence: the token, and what a login shows.
func secretsOf(token string, in any) (secrets []string) {
	shown, _ := in.(loginBody)
	for _, s := range []string{token, shown.JWT, shown.SecretID} {
		if s != "" {
			secrets = append(secrets, s)
		}
	}
	return secrets
}
