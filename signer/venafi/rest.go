// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

// Reasons of a *signer.CheckError.
const (
	reasonCredentialsRefused  = "CredentialsRefused"
	reasonPermissionDenied    = "PermissionDenied"
	reasonZoneUnknown         = "ZoneUnknown"
	reasonZoneUnusable        = "ZoneUnusable"
	reasonRefreshTokenUnsaved = "RefreshTokenNotSaved"
)

// call is one request to a server.
type call struct {
	client *http.Client
	method string
	url    *url.URL
	header http.Header
	in     any // sent as JSON, if not nil
}

// answer is a server's answer, of any status.
type answer struct {
	status int
	line   string // such as "400 Certificate does not exist."
	body   []byte
}

// do returns the answer; the error is about the way to it.
func (c call) do(ctx context.Context) (*answer, error) {
	var body io.Reader
	if c.in != nil {
		text, err := json.Marshal(c.in)
		if err != nil {
			return nil, fmt.Errorf("encoding a request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), body)
	if err != nil {
		return nil, err
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json, */*")
	if c.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	return &answer{status: resp.StatusCode, line: resp.Status, body: text}, nil
}

// decode reads the body of an answer that has one of the statuses, or returns a *refusal.
func (a *answer) decode(into any, statuses ...int) error {
	for _, s := range statuses {
		if a.status != s {
			continue
		}
		if err := json.Unmarshal(a.body, into); err != nil {
			return errors.New("the server's answer is not the JSON that it should be")
		}
		return nil
	}
	return a.refused()
}

// refusal is an answer that is no success, with the server's own words.
type refusal struct {
	status int
	words  string
}

func (r *refusal) Error() string {
	if r.words == "" {
		return fmt.Sprintf("the server answers with status %d and says nothing", r.status)
	}
	return fmt.Sprintf("the server answers %s (status %d)", remote.Quote(r.words), r.status)
}

// says reports whether the server used these words.
func (r *refusal) says(words string) bool {
	return strings.Contains(strings.ToLower(r.words), strings.ToLower(words))
}

// refused finds the server's words: TPP has them in Error, in error_description or only in the status line, Cloud in a list of
// errors. A status that has only one meaning becomes a *signer.CheckError.
func (a *answer) refused() error {
	var says struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Errors      []struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	var words []string
	if json.Unmarshal(a.body, &says) == nil {
		for _, w := range []string{says.Error, says.Description} {
			if w != "" {
				words = append(words, w)
			}
		}
		for _, e := range says.Errors {
			words = append(words, fmt.Sprintf("%s (code %d)", e.Message, e.Code))
		}
	}
	line := strings.TrimSpace(strings.TrimPrefix(a.line, strconv.Itoa(a.status)))
	if len(words) == 0 && line != http.StatusText(a.status) {
		words = []string{line}
	}
	r := &refusal{status: a.status, words: strings.Join(words, ": ")}
	if a.status == http.StatusForbidden {
		return checkError(reasonPermissionDenied, "%w: give the account the rights, and a token the scope, that the guide names", r)
	}
	return r
}

func checkError(reason, format string, args ...any) error {
	return &signer.CheckError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

func permanent(format string, args ...any) error {
	return &signer.PermanentError{Err: fmt.Errorf(format, args...)}
}
