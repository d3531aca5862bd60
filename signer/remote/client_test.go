// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/remote"
)

// serve starts an HTTPS server, and returns it with a client's view of it.
func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, v1alpha1.Server) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS10}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, v1alpha1.Server{URL: s.URL, CABundle: string(encode(s.Certificate().Raw))}
}

func newClient(t *testing.T, server v1alpha1.Server, o remote.Options) *http.Client {
	t.Helper()
	c, err := remote.HTTPClient(server, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func get(t *testing.T, c *http.Client, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func wantError(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("got the error %v, want one with %q", err, words)
	}
}

func TestHTTPClientTrustsOnlyTheBundle(t *testing.T) {
	s, server := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	if got, err := get(t, newClient(t, server, remote.Options{}), s.URL); err != nil || got != "hello" {
		t.Errorf("got %q and the error %v", got, err)
	}
	_, err := get(t, newClient(t, v1alpha1.Server{URL: s.URL}, remote.Options{}), s.URL)
	wantError(t, err, "unknown authority")
	_, err = get(t, newClient(t, v1alpha1.Server{URL: s.URL, CABundle: server.CABundle, ServerName: "other.test"}, remote.Options{}), s.URL)
	wantError(t, err, "not other.test")
	if got, err := get(t, newClient(t, v1alpha1.Server{URL: s.URL, CABundle: server.CABundle, ServerName: "example.com"}, remote.Options{}), s.URL); err != nil || got != "hello" {
		t.Errorf("with the server's other name: got %q and the error %v", got, err)
	}
}

func TestHTTPClientRefusesOldTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := get(t, newClient(t, v1alpha1.Server{URL: s.URL, CABundle: string(encode(s.Certificate().Raw))}, remote.Options{}), s.URL)
	wantError(t, err, "protocol version")
}

func TestHTTPClientNeverSpeaksPlainHTTP(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	_, err := get(t, newClient(t, v1alpha1.Server{URL: "https://example.com"}, remote.Options{}), s.URL)
	wantError(t, err, "only https is spoken")
}

func TestRedirects(t *testing.T) {
	stolen := make(chan string, 1)
	thief, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { stolen <- r.Header.Get("X-Token") })
	plain := httptest.NewServer(thief.Config.Handler)
	t.Cleanup(plain.Close)
	s, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
		case "/there":
			_, _ = io.WriteString(w, r.Header.Get("X-Token"))
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/thief":
			http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
		case "/plain":
			http.Redirect(w, r, plain.URL, http.StatusTemporaryRedirect)
		case "/long":
			w.Header().Set("Location", "https://example.com/"+strings.Repeat("x", 30000))
			w.WriteHeader(http.StatusFound)
		case "/broken":
			w.Header().Set("Location", "https://%zz/")
			w.WriteHeader(http.StatusFound)
		}
	})
	c := newClient(t, server, remote.Options{})
	for path, want := range map[string]string{
		"/same": "", "/loop": "again and again", "/thief": "another host", "/plain": "another host", "/long": "another host", "/broken": "no URL",
	} {
		t.Run(path, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Token", "secret")
			resp, err := c.Do(req)
			if want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "secret" {
					t.Errorf("got %q and the error %v from where the same host redirects to", body, err)
				}
				_ = resp.Body.Close()
				return
			}
			wantError(t, err, want)
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	select {
	case token := <-stolen:
		t.Errorf("another host was asked, with the token %q", token)
	default:
	}
}

func TestAnswersAreBounded(t *testing.T) {
	s, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fits":
			_, _ = io.WriteString(w, strings.Repeat("x", remote.MaxAnswer))
		case "/huge":
			for range 100 {
				_, _ = io.WriteString(w, strings.Repeat("x", remote.MaxAnswer/10))
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, strings.Repeat("x", remote.MaxAnswer+1))
			_ = z.Close()
		case "/headers":
			w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
		}
	})
	c := newClient(t, server, remote.Options{})
	if got, err := get(t, c, s.URL+"/fits"); err != nil || len(got) != remote.MaxAnswer {
		t.Errorf("an answer of the allowed length: got %d bytes and the error %v", len(got), err)
	}
	for _, path := range []string{"/huge", "/bomb"} {
		got, err := get(t, c, s.URL+path)
		wantError(t, err, "longer than the 1048576 bytes")
		if len(got) > remote.MaxAnswer {
			t.Errorf("%s: %d bytes were read", path, len(got))
		}
	}
	_, err := get(t, c, s.URL+"/headers")
	wantError(t, err, "headers exceeded")
}

func TestClientCertificateChangesWithItsSource(t *testing.T) {
	s, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, c := range r.TLS.PeerCertificates {
			_, _ = io.WriteString(w, c.Subject.CommonName)
		}
	})
	first, second := keyPair(t, "first"), keyPair(t, "second")
	now, failing := &first, errors.New("no Secret")
	var fault error
	c := newClient(t, server, remote.Options{Certificate: func(context.Context) (*tls.Certificate, error) {
		fresh := *now // as one that is parsed anew each time
		return &fresh, fault
	}})
	for _, want := range []string{"first", "first", "second"} {
		if want == "second" {
			now = &second
		}
		if got, err := get(t, c, s.URL); err != nil || got != want {
			t.Errorf("the server saw %q, want %q (error %v)", got, want, err)
		}
	}
	fault = failing
	if _, err := get(t, c, s.URL); !errors.Is(err, failing) {
		t.Errorf("got the error %v, want that of the certificate's source", err)
	}
	config, err := remote.TLSConfig("", "", remote.Options{Certificate: func(context.Context) (*tls.Certificate, error) { return now, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := config.GetClientCertificate(&tls.CertificateRequestInfo{}); err != nil || got != now {
		t.Errorf("TLSConfig shows %v (error %v)", got, err)
	}
}

func TestConfigurationErrorsNameTheField(t *testing.T) {
	for name, c := range map[string]struct {
		server v1alpha1.Server
		want   string
	}{
		"empty URL":       {v1alpha1.Server{}, "vault.url: \"\" does not begin with https://"},
		"plain HTTP":      {v1alpha1.Server{URL: "http://vault.example.com"}, "vault.url: \"http://vault.example.com\" does not begin with https://"},
		"no host":         {v1alpha1.Server{URL: "https:///v1"}, "vault.url: \"https:///v1\" has no host"},
		"port alone":      {v1alpha1.Server{URL: "https://:8200"}, "has no host"},
		"password":        {v1alpha1.Server{URL: "https://me:hunter2@vault.example.com"}, "vault.url: it holds a user or a password"},
		"query":           {v1alpha1.Server{URL: "https://vault.example.com/?a=b"}, "must be no more than"},
		"fragment":        {v1alpha1.Server{URL: "https://vault.example.com/#a"}, "must be no more than"},
		"traversal":       {v1alpha1.Server{URL: "https://vault.example.com/a/../b"}, "with a plain path"},
		"double slash":    {v1alpha1.Server{URL: "https://vault.example.com/a//b"}, "with a plain path"},
		"escaped slash":   {v1alpha1.Server{URL: "https://vault.example.com/a%2fb"}, "with a plain path"},
		"no URL at all":   {v1alpha1.Server{URL: "https://vault.example.com:port"}, "is no URL"},
		"opaque":          {v1alpha1.Server{URL: "https:vault.example.com"}, "has no host"},
		"bundle of a key": {v1alpha1.Server{URL: "https://vault.example.com", CABundle: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "vault.caBundle: PEM block 1 is of type \"PRIVATE KEY\""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.HTTPClient(c.server, remote.Options{Field: "vault"})
			wantError(t, err, c.want)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
}

func TestBaseURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://vault.example.com:8200":  "https://vault.example.com:8200",
		"https://vault.example.com:8200/": "https://vault.example.com:8200",
		"https://proxy.example.com/vault": "https://proxy.example.com/vault",
		"https://[2001:db8::7]:8200":      "https://[2001:db8::7]:8200",
	} {
		if got, err := remote.BaseURL(in, "url"); err != nil || got.String() != want {
			t.Errorf("BaseURL(%q) is %v and the error %v, want %s", in, got, err, want)
		}
	}
}
