// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// recorder is a writer that keeps what it is asked, and answers as it is told.
type recorder struct {
	calls []string
	err   error
}

func (r *recorder) Present(_ context.Context, record txt.Record) error {
	r.calls = append(r.calls, "present "+record.Name+" "+record.Value)
	return r.err
}

func (r *recorder) CleanUp(_ context.Context, record txt.Record) error {
	r.calls = append(r.calls, "cleanup "+record.Name+" "+record.Value)
	return r.err
}

func (r *recorder) Check(context.Context) error {
	r.calls = append(r.calls, "check")
	return r.err
}

const fine = `{"version":"v1","zone":"example.com.","fqdn":"_acme-challenge.example.com.","value":"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv","config":{"a":"b"},"later":1}`

func TestHandler(t *testing.T) {
	long := `{"version":"v1","config":{"a":"` + strings.Repeat("x", MaxBody) + `"}}`
	for title, c := range map[string]struct {
		method, path, token, body string
		err                       error
		status                    int
		call                      string // that reached the writer; empty if none
	}{
		"present":              {"POST", "/present", "sesame", fine, nil, StatusDone, "present _acme-challenge.example.com. " + strings.Repeat("v", 43)},
		"cleanup":              {"POST", "/cleanup", "sesame", fine, nil, StatusDone, "cleanup _acme-challenge.example.com. " + strings.Repeat("v", 43)},
		"check":                {"POST", "/check", "sesame", `{"version":"v1"}`, nil, StatusDone, "check"},
		"misconfigured":        {"POST", "/present", "sesame", fine, txt.Misconfigured("no such zone"), StatusMisconfigured, "present _acme-challenge.example.com. " + strings.Repeat("v", 43)},
		"trouble":              {"POST", "/check", "sesame", fine, errors.New("down"), StatusTrouble, "check"},
		"wrong token":          {"POST", "/present", "open", fine, nil, StatusUnauthorized, ""},
		"no token":             {"POST", "/present", "", fine, nil, StatusUnauthorized, ""},
		"token before content": {"POST", "/present", "open", "{", nil, StatusUnauthorized, ""},
		"no JSON":              {"POST", "/present", "sesame", "{", nil, StatusBadRequest, ""},
		"empty":                {"POST", "/present", "sesame", "", nil, StatusBadRequest, ""},
		"other version":        {"POST", "/check", "sesame", `{"version":"v2"}`, nil, StatusBadRequest, ""},
		"no record":            {"POST", "/cleanup", "sesame", `{"version":"v1"}`, nil, StatusBadRequest, ""},
		"too long":             {"POST", "/check", "sesame", long, nil, StatusBadRequest, ""},
		"wrong types":          {"POST", "/check", "sesame", `{"version":"v1","config":["a"]}`, nil, StatusBadRequest, ""},
		"other method":         {"GET", "/present", "sesame", fine, nil, http.StatusMethodNotAllowed, ""},
		"other path":           {"POST", "/presents", "sesame", fine, nil, http.StatusNotFound, ""},
	} {
		t.Run(title, func(t *testing.T) {
			writer := &recorder{err: c.err}
			reported := 0
			handler := Handler(func(map[string]string) (txt.Writer, error) { return writer, nil }, "sesame", func(string, Request, error) { reported++ })
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != c.status || strings.Join(writer.calls, ",") != c.call || (reported > 0) != (c.err != nil) {
				t.Errorf("status %d, calls %q, %d reports; want %d and %q", w.Code, writer.calls, reported, c.status, c.call)
			}
			if c.status == http.StatusNotFound || c.status == http.StatusMethodNotAllowed {
				return // outside the contract
			}
			var answer Answer
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Version != Version || (answer.Error == "") != (c.status == StatusDone) {
				t.Errorf("answer %s, error %v", w.Body, err)
			}
		})
	}
}

// What a configuration cannot be opened with is no trouble that passes.
func TestOpenFails(t *testing.T) {
	handler := Handler(func(map[string]string) (txt.Writer, error) { return nil, txt.Misconfigured("unknown provider") }, "", nil)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/present", strings.NewReader(fine)))
	if w.Code != StatusMisconfigured || !strings.Contains(w.Body.String(), "unknown provider") {
		t.Errorf("status %d, %s", w.Code, w.Body)
	}
}
