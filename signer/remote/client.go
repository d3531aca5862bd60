// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package remote is what all backends that talk to a server have in common: an HTTP client with the limits that a server
// which may be hostile or broken needs, credentials from Secrets, and the parsing of what comes back.
//
// A client made here speaks HTTPS only, with TLS 1.2 or newer, follows redirects only on the same host, as credentials
// travel along, and never reads more than MaxAnswer bytes of an answer. It takes a proxy from the environment as
// http.ProxyFromEnvironment does, and nothing else from there.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
)

const (
	// MaxAnswer is how many bytes of an answer's body can be read. Reading on is an error.
	MaxAnswer = 1 << 20

	// MaxTime bounds a call whose context has no earlier deadline.
	MaxTime = time.Minute

	maxRedirects = 3
)

// Options say what a client needs beyond v1alpha1.Server. The zero value is fine.
type Options struct {
	// Field is where the server stands in the backend, such as "vault". Errors name the fields below it.
	Field string
	// Certificate returns the client certificate to show when a server asks for one. It is called for every request, so it
	// should read from memory, as Secrets.Certificate does; a connection that showed another certificate is used no more.
	Certificate func(context.Context) (*tls.Certificate, error)
}

// HTTPClient returns a client for a server. It does no I/O; the error is about the configuration and names the field. Its
// idle connections are closed by CloseIdleConnections.
func HTTPClient(server v1alpha1.Server, o Options) (*http.Client, error) {
	if _, err := BaseURL(server.URL, o.field("url")); err != nil {
		return nil, err
	}
	config, err := TLSConfig(server.CABundle, server.ServerName, Options{Field: o.Field})
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     newTransport(config, o.Certificate),
		Timeout:       MaxTime,
		CheckRedirect: checkRedirects,
	}, nil
}

// TLSConfig returns the client's side of TLS with a server. It does no I/O; the error is about the configuration and names
// the field. Without a CA bundle the public roots are trusted, without a server name that of the address is verified.
func TLSConfig(caBundle, serverName string, o Options) (*tls.Config, error) {
	roots, err := Pool(caBundle, o.field("caBundle"))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: serverName}
	if o.Certificate != nil {
		config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return o.Certificate(info.Context())
		}
	}
	return config, nil
}

// BaseURL parses the URL of a server: https, a host, and a path if need be, without a trailing slash. The error names the
// field.
func BaseURL(raw, field string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is no URL: it must be https://HOST[:PORT][/PATH]", field, raw)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	switch {
	case u.Scheme != "https":
		return nil, fmt.Errorf("%s: %q does not begin with https://: credentials travel there", field, raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%s: %q has no host: it must be https://HOST[:PORT][/PATH]", field, raw)
	case u.User != nil:
		return nil, fmt.Errorf("%s: it holds a user or a password: credentials belong in a Secret", field)
	case plain.String() != strings.TrimRight(raw, "/"), u.Path != "" && path.Clean(u.Path) != u.Path:
		return nil, fmt.Errorf("%s: %q must be no more than https://HOST[:PORT][/PATH], with a plain path", field, raw)
	}
	return &plain, nil
}

func (o Options) field(name string) string {
	if o.Field == "" {
		return name
	}
	return o.Field + "." + name
}

func checkRedirects(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("the server redirects again and again")
	}
	return nil
}
