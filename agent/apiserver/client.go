// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certwright/certwright/excerpt"
)

const (
	requestsPath = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	// requestTimeout bounds one call, from dialing to the last byte of the answer.
	requestTimeout = 15 * time.Second
	// maxResponseBytes bounds an answer: more than the API server stores in one object.
	maxResponseBytes = 4 << 20
	// MaxMessageBytes bounds what is kept of the words of others.
	MaxMessageBytes = 1024
)

// StatusError is an answer of the API server other than success.
type StatusError struct {
	// Code is the HTTP status, Reason and Message are from the metav1.Status.
	Code            int
	Reason, Message string
	// RetryAfter is how long the server asked to wait; zero if it did not.
	RetryAfter time.Duration
}

// Error shows the code and the server's own message.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the API server answered %d %s: %s", e.Code, e.Reason, e.Message)
}

// Client speaks to the API server about CertificateSigningRequests. Token and CA
// are read from files for every call, since both change while a pod runs.
type Client struct {
	base, tokenFile, caFile, userAgent string

	// Dial replaces the network where it is not nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex // guards what follows
	ca     []byte
	client *http.Client
}

// NewClient returns a Client for the API server at host and port, as in the
// environment variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT. The
// files are those of a service account: a bearer token and the server's CA.
func NewClient(host, port, tokenFile, caFile, userAgent string) *Client {
	return &Client{base: "https://" + net.JoinHostPort(host, port), tokenFile: tokenFile, caFile: caFile, userAgent: userAgent}
}

// Create posts a request. Errors that the API server answered with are
// *StatusError; after any other error the object may exist or not.
func (c *Client) Create(ctx context.Context, request *Request) (*Request, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encoding request: %w", err)
	}
	return c.do(ctx, http.MethodPost, requestsPath, body)
}

// Get reads a request by its name. Errors are as of Create.
func (c *Client) Get(ctx context.Context, name string) (*Request, error) {
	return c.do(ctx, http.MethodGet, requestsPath+"/"+url.PathEscape(name), nil)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*Request, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	client, err := c.current()
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(c.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("reading service account token: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("building HTTP request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", c.userAgent)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("calling the API server: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxResponseBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the API server's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return nil, statusError(response, data)
	}
	return decodeRequest(data)
}

// decodeRequest reads the object in a successful answer. Errors never quote it.
func decodeRequest(data []byte) (*Request, error) {
	if len(data) > maxResponseBytes {
		return nil, fmt.Errorf("the API server's answer is longer than %d bytes", maxResponseBytes)
	}
	answer := new(Request)
	if err := json.Unmarshal(data, answer); err != nil {
		return nil, errors.New("the API server's answer is not the JSON of a CertificateSigningRequest")
	}
	if answer.Kind != RequestKind || answer.Metadata.Name == "" || answer.Metadata.UID == "" {
		return nil, errors.New("the API server's answer is not a CertificateSigningRequest")
	}
	return answer, nil
}

func statusError(response *http.Response, data []byte) *StatusError {
	var status struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
	e := &StatusError{Code: response.StatusCode, Reason: http.StatusText(response.StatusCode), Message: "no message"}
	if json.Unmarshal(data, &status) == nil && status.Message != "" {
		e.Message = excerpt.Line(status.Message, MaxMessageBytes)
		if status.Reason != "" {
			e.Reason = excerpt.Line(status.Reason, MaxMessageBytes)
		}
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, 600)) * time.Second
	}
	return e
}

// current returns an HTTP client that trusts the CA file as it is now.
func (c *Client) current() (*http.Client, error) {
	ca, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's CA: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && bytes.Equal(ca, c.ca) {
		return c.client, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("reading the API server's CA: no certificate in %s", c.caFile)
	}
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
	c.ca = ca
	c.client = &http.Client{
		// The token goes to the API server and nowhere else: no proxy, no redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         c.Dial,
			TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConns:        1,
			IdleConnTimeout:     30 * time.Second,
		},
	}
	return c.client, nil
}

// CloseIdleConnections ends connections that no call uses.
func (c *Client) CloseIdleConnections() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
}
