// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dnswebhook

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
	"github.com/certwright/certwright/signer/remote"
)

const token = "open-sesame"

var record = txt.Record{Zone: "example.com.", Name: "_acme-challenge.example.com.", Value: strings.Repeat("v", 43)}

func secrets(value string) remote.Secrets {
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "certwright-system", Name: "webhook"}, Data: map[string][]byte{"token": []byte(value)}}
	return remote.Secrets{Reader: fake.NewClientBuilder().WithObjects(object).Build(), Namespace: "certwright-system"}
}

// over returns a writer that talks to a handler over HTTPS.
func over(t *testing.T, handler http.HandlerFunc) *Writer {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	w, err := New(v1alpha1.DNSWebhook{URL: server.URL + "/dns", CABundle: string(ca), TokenRef: &v1alpha1.SecretKeyRef{Name: "webhook", Key: "token"}, Config: map[string]string{"a": "b"}}, secrets(token))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// What a webhook, or what stands in its place, can answer, is never taken for more than it says.
func TestAnswers(t *testing.T) {
	for title, c := range map[string]struct {
		status        int
		body          string
		misconfigured bool
		want          string // in the error; empty if there is none
	}{
		"done":                  {200, `{"version":"v1"}`, false, ""},
		"done, with more":       {200, `{"version":"v1","later":1}`, false, ""},
		"another version":       {200, `{"version":"v2"}`, false, "is no answer of version v1"},
		"a page of a proxy":     {200, "<html>Welcome</html>", false, "<html>Welcome</html>"},
		"empty":                 {200, "", false, "is no answer"},
		"done and not":          {200, `{"version":"v1","error":"no"}`, false, "no"},
		"misconfigured":         {422, `{"version":"v1","error":"no such zone"}`, true, "no such zone"},
		"422 of somebody else":  {422, `{}`, false, "is no answer"},
		"token":                 {401, `{"version":"v1","error":"no"}`, true, "Secret webhook, entry token"},
		"bad request":           {400, `{"version":"v1","error":"zone: no"}`, true, "zone: no"},
		"bad request of a wall": {400, "no", false, "is no answer"},
		"trouble":               {503, `{"version":"v1","error":"the provider is down"}`, false, "the provider is down"},
		"not found":             {404, "404 page not found", false, "does dns01.webhook.url lead to it"},
		"redirect":              {307, "", false, "answers 307"},
		"very long":             {503, `{"version":"v1","error":"` + strings.Repeat("x", 5000) + `"}`, false, strings.Repeat("x", 250)},
		"endless":               {200, `{"version":"v1","error":"` + strings.Repeat("x", 1<<20), false, "is no answer"},
	} {
		t.Run(title, func(t *testing.T) {
			asked := 0
			w := over(t, func(w http.ResponseWriter, r *http.Request) {
				if asked++; r.URL.Path != "/dns/present" || r.Header.Get("Authorization") != "Bearer "+token {
					t.Errorf("asked for %s with %q", r.URL.Path, r.Header.Get("Authorization"))
				}
				if c.status == http.StatusTemporaryRedirect {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			err := w.Present(t.Context(), record)
			var misconfigured *txt.ConfigError
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || errors.As(err, &misconfigured) != c.misconfigured || asked != 1 {
				t.Errorf("error %v after %d requests; want one with %q, misconfigured: %t", err, asked, c.want, c.misconfigured)
			}
			if err != nil && (strings.Contains(err.Error(), token) || len(err.Error()) > 700) {
				t.Errorf("an error of %d bytes, or one that shows the token: %v", len(err.Error()), err)
			}
		})
	}
}

func TestTroubleOnTheWay(t *testing.T) {
	stop := make(chan struct{})
	hanging := over(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var misconfigured *txt.ConfigError
	if err := hanging.CleanUp(ctx, record); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &misconfigured) {
		t.Errorf("a webhook that hangs: %v", err)
	}
	gone, err := New(v1alpha1.DNSWebhook{URL: "unix://" + filepath.Join(t.TempDir(), "gone.sock")}, remote.Secrets{})
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Check(t.Context()); err == nil || errors.As(err, &misconfigured) || !strings.Contains(err.Error(), "gone.sock") {
		t.Errorf("no socket: %v", err)
	}
}

// Somebody else's certificate gets neither the token nor the record.
func TestAnotherServer(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	defer server.Close()
	server.Config.ErrorLog = nil
	w, err := New(v1alpha1.DNSWebhook{URL: server.URL, TokenRef: &v1alpha1.SecretKeyRef{Name: "webhook", Key: "token"}}, secrets(token))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Present(t.Context(), record); err == nil {
		t.Error("no error")
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dns.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/check" || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, `{"version":"v1"}`)
	})}}
	server.Start()
	defer server.Close()
	w, err := New(v1alpha1.DNSWebhook{URL: "unix://" + path}, remote.Secrets{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if err := w.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := w.Present(t.Context(), record); err == nil || !strings.Contains(err.Error(), "set dns01.webhook.tokenRef") {
		t.Errorf("a webhook that wants a token: %v", err)
	}
}

func TestNew(t *testing.T) {
	ref := &v1alpha1.SecretKeyRef{Name: "webhook", Key: "token"}
	for title, c := range map[string]struct {
		config v1alpha1.DNSWebhook
		want   string // the error's start; empty if there is none
	}{
		"https":         {v1alpha1.DNSWebhook{URL: "https://dns.example.com/hook", TokenRef: ref}, ""},
		"socket":        {v1alpha1.DNSWebhook{URL: "unix:///run/certwright/dns.sock"}, ""},
		"no token":      {v1alpha1.DNSWebhook{URL: "https://dns.example.com"}, "tokenRef: "},
		"no token name": {v1alpha1.DNSWebhook{URL: "https://dns.example.com", TokenRef: &v1alpha1.SecretKeyRef{Key: "a"}}, "tokenRef.name: "},
		"plain http":    {v1alpha1.DNSWebhook{URL: "http://dns.example.com", TokenRef: ref}, "url: "},
		"no host":       {v1alpha1.DNSWebhook{URL: "https://", TokenRef: ref}, "url: "},
		"empty":         {v1alpha1.DNSWebhook{TokenRef: ref}, "url: "},
		"no path":       {v1alpha1.DNSWebhook{URL: "unix://", TokenRef: ref}, "url: "},
		"CA bundle":     {v1alpha1.DNSWebhook{URL: "https://dns.example.com", TokenRef: ref, CABundle: "x"}, "caBundle: "},
	} {
		t.Run(title, func(t *testing.T) {
			_, err := New(c.config, remote.Secrets{})
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error %v, want one that begins with %q", err, c.want)
			}
		})
	}
}
