// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// transport is an http.RoundTripper with limits. It speaks HTTP/1.1: there, a request that runs out of time takes its
// connection with it, so that a server which hung is not waited for again on the same one.
type transport struct {
	config      *tls.Config
	certificate func(context.Context) (*tls.Certificate, error)

	mu      sync.Mutex
	current *http.Transport
	shown   *tls.Certificate // what current's connections show
}

func newTransport(config *tls.Config, certificate func(context.Context) (*tls.Certificate, error)) *transport {
	return &transport{config: config, certificate: certificate, current: httpTransport(config)}
}

func httpTransport(config *tls.Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              protocols,
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		closeBody(req)
		return nil, errors.New("only https is spoken, as credentials travel along")
	}
	current, err := t.transport(req.Context())
	if err != nil {
		closeBody(req)
		return nil, err
	}
	resp, err := current.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := checkLocation(resp); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: MaxAnswer}
	return resp, nil
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current.CloseIdleConnections()
}

// transport returns the one whose connections show the certificate of this moment.
func (t *transport) transport(ctx context.Context) (*http.Transport, error) {
	if t.certificate == nil {
		return t.current, nil
	}
	certificate, err := t.certificate(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the client certificate: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown == nil || !sameCertificate(t.shown, certificate) {
		t.current.CloseIdleConnections()
		config := t.config.Clone()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
		t.current, t.shown = httpTransport(config), certificate
	}
	return t.current, nil
}

func sameCertificate(a, b *tls.Certificate) bool {
	return a == b || bytes.Equal(bytes.Join(a.Certificate, nil), bytes.Join(b.Certificate, nil))
}

// checkLocation refuses a redirect that would carry what a request holds to somebody else. It is done here and not in
// http.Client.CheckRedirect as the error of that holds the whole new URL, whose length is up to the server.
func checkLocation(resp *http.Response) error {
	if resp.StatusCode/100 != 3 {
		return nil
	}
	to, err := resp.Location()
	if errors.Is(err, http.ErrNoLocation) {
		return nil
	}
	if err != nil {
		return errors.New("the server redirects to something that is no URL")
	}
	if from := resp.Request.URL; to.Scheme != from.Scheme || to.Host != from.Host {
		return fmt.Errorf("the server redirects to another host, which is never followed, as credentials travel along: %s", Bound(to.Scheme+"://"+to.Host))
	}
	return nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// boundedBody is a body with a limit that is an error, not an end.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if n > b.left {
		return b.left, fmt.Errorf("the server's answer is longer than the %d bytes that are allowed", MaxAnswer)
	}
	b.left -= n
	return n, err
}
