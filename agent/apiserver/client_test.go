// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
)

// realServer is an HTTPS server on a real socket, and a Client for it.
func realServer(t *testing.T, handler http.HandlerFunc) (*Client, *httptest.Server, string) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	put(t, dir, "token", []byte("one\n"))
	put(t, dir, "ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(host, port, filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt"), "certwright-agent/test"), server, dir
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestClientSpeaksAsTheAPIWantsIt(t *testing.T) {
	client, _, dir := realServer(t, func(w http.ResponseWriter, r *http.Request) {
		body := agenttest.Must(io.ReadAll(r.Body))(t)
		fmt.Fprintf(w, `{"kind":"CertificateSigningRequest","metadata":{"name":"n","uid":"u"},"status":{"conditions":[{"type":"Seen","reason":%q,"message":%q}]}}`,
			strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), r.Header.Get("User-Agent")}, "|"), body)
	})
	created := agenttest.Must(client.Create(t.Context(), &Request{
		APIVersion: "certificates.k8s.io/v1", Kind: RequestKind, Metadata: RequestMetadata{Name: "n"},
		Spec: RequestSpec{Request: []byte("pem"), SignerName: "example.com/x", ExpirationSeconds: 600, Usages: []string{"client auth"}},
	}))(t)
	seen := created.Condition("Seen")
	if want := "POST|/apis/certificates.k8s.io/v1/certificatesigningrequests|Bearer one|application/json|certwright-agent/test"; seen.Reason != want {
		t.Errorf("call %s\nwant %s", seen.Reason, want)
	}
	if want := `{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":"n"},"spec":{"request":"cGVt","signerName":"example.com/x","expirationSeconds":600,"usages":["client auth"]}}`; seen.Message != want {
		t.Errorf("body %s\nwant %s", seen.Message, want)
	}
	put(t, dir, "token", []byte("two")) // the kubelet rotates it
	read := agenttest.Must(client.Get(t.Context(), "n"))(t)
	if want := "GET|/apis/certificates.k8s.io/v1/certificatesigningrequests/n|Bearer two||certwright-agent/test"; read.Condition("Seen").Reason != want {
		t.Errorf("call %s\nwant %s", read.Condition("Seen").Reason, want)
	}
}

func TestClientFollowsTheServersCA(t *testing.T) {
	client, _, dir := realServer(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"kind":"CertificateSigningRequest","metadata":{"name":"n","uid":"u"}}`)
	})
	good := agenttest.Must(os.ReadFile(filepath.Join(dir, "ca.crt")))(t)
	for step, test := range []struct {
		ca      []byte
		problem string
	}{
		{agenttest.NewAuthority(t, "other").Bundle(), "certificate signed by unknown authority"},
		{good, ""},
		{[]byte("garbage"), "no certificate in"},
		{agenttest.NewAuthority(t, "other").Bundle(), "certificate signed by unknown authority"},
		{good, ""},
	} {
		put(t, dir, "ca.crt", test.ca)
		_, err := client.Get(t.Context(), "n")
		if test.problem == "" && err != nil || test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
			t.Errorf("step %d: error %v, want %q", step, err, test.problem)
		}
	}
}

func TestClientErrors(t *testing.T) {
	var status *StatusError
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    StatusError // compared when Code is set
		problem string
	}{
		"status": {
			handler: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 409, "AlreadyExists", "it is\n there") },
			want:    StatusError{Code: 409, Reason: "AlreadyExists", Message: "it is there"},
		},
		"not a status": {
			handler: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", 502) },
			want:    StatusError{Code: 502, Reason: "Bad Gateway", Message: "no message"},
		},
		"retry after": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
		}, want: StatusError{Code: 429, Reason: "Too Many Requests", Message: "no message", RetryAfter: 7 * time.Second}},
		"retry after much too long": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "999999999")
			w.WriteHeader(503)
		}, want: StatusError{Code: 503, Reason: "Service Unavailable", Message: "no message", RetryAfter: 10 * time.Minute}},
		"a redirect gets no token": {handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("the redirect was followed")
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(307)
		}, want: StatusError{Code: 307, Reason: "Temporary Redirect", Message: "no message"}},
		"endless answer": {handler: func(w http.ResponseWriter, _ *http.Request) {
			for range 5 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, problem: "longer than"},
		"object without UID": {handler: func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"kind":"CertificateSigningRequest","metadata":{"name":"n"}}`)
		}, problem: "is not a CertificateSigningRequest"},
		"cut short": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{}`)
		}, problem: "reading the API server's answer"},
	} {
		t.Run(name, func(t *testing.T) {
			client, _, _ := realServer(t, test.handler)
			_, err := client.Get(t.Context(), "n")
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want %q", err, test.problem)
				}
				return
			}
			if !errors.As(err, &status) || *status != test.want {
				t.Errorf("error %v, want %v", err, &test.want)
			}
		})
	}
}

func TestClientWithoutItsFiles(t *testing.T) {
	for file, problem := range map[string]string{"token": "reading service account token", "ca.crt": "reading the API server's CA"} {
		client, _, dir := realServer(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get(t.Context(), "n"); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("error %v, want %q", err, problem)
		}
	}
}

// refuse answers as the API server does.
func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "reason": reason, "message": message, "code": code})
}

// FuzzDecodeRequest: no answer makes it panic, and what it accepts has what the
// binding of an answer to a request rests on.
func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"kind":"CertificateSigningRequest","metadata":{"name":"n","uid":"u"},"status":{"certificate":"LS0t"}}`))
	f.Add([]byte(`{"kind":"CertificateSigningRequest","metadata":{"name":"n","uid":"u"},"status":{"conditions":[{"type":"Denied"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		object, err := decodeRequest(data)
		if err != nil {
			return
		}
		if object.Kind != RequestKind || object.Metadata.Name == "" || object.Metadata.UID == "" {
			t.Errorf("accepted %+v", object.Metadata)
		}
		if object.Condition("Denied") != nil && object.Verdict() == nil {
			t.Error("a denial is no verdict")
		}
	})
}
