// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// maxCalls bounds how many HTTP requests one call may make: those that acmez repeats, and chains that a server links to.
const maxCalls = 40

// maxWait bounds how long a server can make us wait. One that wants more says so again.
const maxWait = time.Hour

// transport sees what acmez does not tell: the status of an answer and when the server wants to be asked again. It answers
// requests for the directory itself: acmez keeps directories in one place for all servers, and would read them under a lock
// that one server which hangs holds up all others with.
type transport struct {
	next         http.RoundTripper
	directoryURL string
	directory    []byte
	hosts        []string // that are asked, wherever answers lead
}

// Answer is what is known of a server's last answer in a call.
type Answer struct {
	// Status of HTTP; 0 if there was no answer.
	Status int
	// RetryAfter is how long to wait before asking again. Zero if the server did not say.
	RetryAfter time.Duration

	mu    sync.Mutex
	calls int
}

type answerKey struct{}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.String() == t.directoryURL {
		return &http.Response{
			Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   io.NopCloser(bytes.NewReader(t.directory)), ContentLength: int64(len(t.directory)), Request: request,
		}, nil
	}
	answer := answered(request.Context())
	if err := t.mayAsk(request, answer); err != nil {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		answer.see(0, 0)
		return nil, err
	}
	response, err := t.next.RoundTrip(request)
	if err != nil {
		answer.see(0, 0)
		return nil, err
	}
	answer.see(response.StatusCode, retryAfter(response.Header.Get("Retry-After"), time.Now()))
	return response, nil
}

// mayAsk bounds where answers of a server can lead, and how often.
func (t *transport) mayAsk(request *http.Request, answer *Answer) error {
	if !slices.Contains(t.hosts, request.URL.Host) {
		return errors.New("an answer of the server leads to this host, which its directory does not name")
	}
	if !answer.count() {
		return errors.New("the server makes us ask too often")
	}
	return nil
}

// hosts are those of URLs.
func hosts(urls ...string) []string {
	var hosts []string
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

func (a *Answer) count() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	return a.calls <= maxCalls
}

func (a *Answer) see(status int, after time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Status, a.RetryAfter = status, after
}

func observe(ctx context.Context) (context.Context, *Answer) {
	answer := &Answer{}
	return context.WithValue(ctx, answerKey{}, answer), answer
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds, or a date. What is neither is as if it was
// not there.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), int64(maxWait/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxWait)
}

// problemOf reads the problem document of an answer (RFC 9457).
func problemOf(response *http.Response, body []byte) error {
	var problem acme.Problem
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(body, &problem) == nil {
		return problem
	}
	return errors.New("the answer has no problem document")
}

func fingerprint(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func answered(ctx context.Context) *Answer {
	if answer, ok := ctx.Value(answerKey{}).(*Answer); ok {
		return answer
	}
	return &Answer{}
}
