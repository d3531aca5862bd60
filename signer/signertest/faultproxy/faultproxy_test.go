// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package faultproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newClient starts a proxy in front of a server that tells who was asked for, and returns a client of it.
func newClient(t *testing.T) (*Proxy, *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Verdict")
		_, _ = io.WriteString(w, r.Host+r.URL.Path)
		w.Header().Set("Verdict", "fine")
	}))
	t.Cleanup(server.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	proxy := Start(t, server.URL, &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(proxy.CA))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return proxy, &http.Client{Transport: transport}
}

// answer is what a client got.
type answer struct {
	status  int
	body    string
	trailer string
}

// get returns what is answered, all of which must have come.
func get(t *testing.T, client *http.Client, url string) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	return answer{got.StatusCode, string(text), got.Trailer.Get("Verdict")}, err
}

func TestFaults(t *testing.T) {
	proxy, client := newClient(t)
	host := strings.TrimPrefix(proxy.URL, "https://")
	exclaim := Change(func(body []byte) []byte { return append(body, '!') })
	for name, c := range map[string]struct {
		fault    Fault
		path     string
		status   int
		body     string // the whole, or its start
		fails    bool
		deadline bool
	}{
		"slow":             {fault: Slow(20 * time.Millisecond), path: "/a", status: 200, body: host + "/a"},
		"too slow":         {fault: Slow(time.Hour), path: "/a", fails: true, deadline: true},
		"hanging":          {fault: Hang, path: "/a", fails: true, deadline: true},
		"answered":         {fault: Answer(503, http.Header{"Retry-After": {"1"}}, "busy"), path: "/a", status: 503, body: "busy"},
		"cut":              {fault: Cut, path: "/a", fails: true},
		"changed":          {fault: exclaim, path: "/a", status: 200, body: host + "/a!"},
		"one of some":      {fault: Only(func(r *http.Request) bool { return r.URL.Path == "/a" }, exclaim), path: "/a", status: 200, body: host + "/a!"},
		"not one of these": {fault: Only(func(r *http.Request) bool { return r.URL.Path == "/b" }, exclaim), path: "/a", status: 200, body: host + "/a"},
		"endless":          {fault: Endless(1 << 20), path: "/a", status: 200, body: `{"data":"aaaa`},
	} {
		t.Run(name, func(t *testing.T) {
			proxy.Break(c.fault)
			got, err := get(t, client, proxy.URL+c.path)
			if (err != nil) != c.fails || errors.Is(err, context.DeadlineExceeded) != c.deadline {
				t.Fatalf("error %v", err)
			}
			if err == nil && (got.status != c.status || !strings.HasPrefix(got.body, c.body) || (name != "endless" && got.body != c.body)) {
				t.Errorf("got %d %.50q, want %d %q", got.status, got.body, c.status, c.body)
			}
			if name == "changed" && got.trailer != "fine" {
				t.Errorf("the trailer is %q", got.trailer)
			}
			proxy.Mend(t)
			if got, err := get(t, client, proxy.URL+"/after"); err != nil || got.body != host+"/after" {
				t.Errorf("once mended: %q, error %v", got.body, err)
			}
		})
	}
	if n := proxy.Sent.Load(); n < 1<<20 {
		t.Errorf("%d bytes were counted", n)
	}
}

func TestStoppedAndImpersonated(t *testing.T) {
	proxy, client := newClient(t)
	if _, err := get(t, client, proxy.URL); err != nil {
		t.Fatal(err)
	}
	proxy.Stop()
	if _, err := get(t, client, proxy.URL); err == nil {
		t.Error("a proxy that is stopped answered")
	}
	came := proxy.Requests.Load()
	proxy.Impersonate(t)
	var unknown x509.UnknownAuthorityError
	if _, err := get(t, client, proxy.URL); !errors.As(err, &unknown) || proxy.Requests.Load() != came {
		t.Errorf("an impostor got %d requests, error %v", proxy.Requests.Load()-came, err)
	}
	proxy.Mend(t)
	if _, err := get(t, client, proxy.URL); err != nil {
		t.Errorf("once mended: %v", err)
	}
}
