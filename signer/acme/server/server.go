// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server speaks with an ACME server (RFC 8555) through github.com/mholt/acmez, and adds what that leaves open: when the
// server wants to be asked again, bounds on what a server may send, and errors that tell whose fault they are. No call waits
// for the server to make up its mind.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/version"
)

const (
	// directoryAge is how long a directory is used before it is read again.
	directoryAge = time.Hour
	// changeEvery is how often a server may change its directory. acmez keeps all that it ever saw.
	changeEvery = 10 * time.Minute
	// maxDocument bounds a directory, and all else that is read without an account, in bytes.
	maxDocument = 64 << 10
)

// Server is one ACME server. It is safe for concurrent use.
type Server struct {
	url   string
	http  *http.Client
	clock clock.PassiveClock

	mu        sync.Mutex
	directory Directory
	client    *acme.Client
	read      time.Time
	changed   time.Time
}

// Directory is what a server says of itself (RFC 8555, section 7.1.1).
type Directory = acme.Directory

// New returns a server. It does no I/O; the error is about the configuration and names the field.
func New(config v1alpha1.Server, clk clock.PassiveClock) (*Server, error) {
	client, err := remote.HTTPClient(config, remote.Options{Field: "acme"})
	if err != nil {
		return nil, err
	}
	return &Server{url: config.URL, http: client, clock: clk}, nil
}

// URL is that of the directory.
func (s *Server) URL() string { return s.url }

// Close closes idle connections.
func (s *Server) Close() { s.http.CloseIdleConnections() }

// Directory returns the server's directory, from memory if it was read within the hour.
func (s *Server) Directory(ctx context.Context) (Directory, error) {
	_, directory, err := s.ready(ctx)
	return directory, err
}

// Refresh reads the directory now, and returns the one that is used.
func (s *Server) Refresh(ctx context.Context) (Directory, error) {
	text, directory, err := s.fetch(ctx)
	if err != nil {
		return Directory{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adopt(text, directory)
	return s.directory, nil
}

// ready returns a client for the directory. While that cannot be read again, the old one is used.
func (s *Server) ready(ctx context.Context) (*acme.Client, Directory, error) {
	s.mu.Lock()
	client, directory, age := s.client, s.directory, s.clock.Since(s.read)
	s.mu.Unlock()
	if client != nil && age < directoryAge {
		return client, directory, nil
	}
	text, fresh, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.adopt(text, fresh)
	case s.client == nil:
		return nil, Directory{}, err
	default:
		s.read = s.clock.Now().Add(time.Minute - directoryAge) // a minute from now
	}
	return s.client, s.directory, nil
}

// adopt makes the directory the one that is used, unless it was changed just now. The nonces of the client before it live on
// if it says the same.
func (s *Server) adopt(text []byte, directory Directory) {
	s.read = s.clock.Now()
	address := s.url + "#" + fingerprint(text)
	if s.client != nil && (s.client.Directory == address || s.clock.Since(s.changed) < changeEvery) {
		return
	}
	s.directory, s.changed = directory, s.read
	s.client = &acme.Client{
		Directory: address,
		HTTPClient: &http.Client{
			Transport: &transport{
				next: s.http.Transport, directoryURL: address, directory: text,
				hosts: hosts(s.url, directory.NewNonce, directory.NewAccount, directory.NewOrder),
			},
			Timeout: s.http.Timeout, CheckRedirect: s.http.CheckRedirect,
		},
		UserAgent:   "certwright/" + version.String(),
		PollTimeout: -1, // it never polls
	}
}

// fetch reads the directory, and makes of it the one that acmez sees: without renewal information, which acmez would fetch
// with every certificate, and wait for.
func (s *Server) fetch(ctx context.Context) ([]byte, Directory, error) {
	var directory Directory
	if err := s.get(ctx, "reading the directory", s.url, &directory); err != nil {
		return nil, Directory{}, err
	}
	if directory.NewNonce == "" || directory.NewAccount == "" || directory.NewOrder == "" {
		return nil, Directory{}, fmt.Errorf("reading the directory: acme.url %s: what answers there is no ACME directory: newNonce, newAccount or newOrder is missing", s.url)
	}
	seen := directory
	seen.RenewalInfo = ""
	text, err := json.Marshal(seen)
	return text, directory, err
}

// get reads JSON that needs no account.
func (s *Server) get(ctx context.Context, what, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	request.Header.Set("User-Agent", "certwright/"+version.String())
	request.Header.Set("Accept", "application/json")
	response, err := s.http.Do(request)
	if err != nil {
		return failure(what, &Answer{}, err)
	}
	defer response.Body.Close()
	answer := &Answer{Status: response.StatusCode, RetryAfter: retryAfter(response.Header.Get("Retry-After"), s.clock.Now())}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err == nil && len(body) > maxDocument {
		err = fmt.Errorf("the answer is longer than the %d bytes that are allowed", maxDocument)
	}
	if err != nil {
		return failure(what, answer, err)
	}
	if response.StatusCode != http.StatusOK {
		return failure(what, answer, problemOf(response, body))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return failure(what, answer, errors.New("the answer is not the JSON that ACME wants"))
	}
	return nil
}
