// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

// toy is a backend that has a server sign over HTTPS, with the mistakes that a backend can make.
type toy struct {
	client   *http.Client
	url      string
	ca       *x509.Certificate
	mistakes string
}

type toyAnswer struct {
	Chain []byte `json:"chain"`
}

func (b toy) makes(mistake string) bool { return b.mistakes == mistake }

func (b toy) TrustAnchors(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{b.ca}, nil
}

func (b toy) Sign(ctx context.Context, req csr.Request) ([]*x509.Certificate, error) {
	permanent := func(format string, args ...any) error {
		return &signer.PermanentError{Err: fmt.Errorf(format, args...)}
	}
	switch {
	case req.IsCA:
		return nil, permanent("isCA: this server signs none")
	case len(req.EmailAddresses) > 0 && b.makes("no field is named"):
		return nil, permanent("no")
	case len(req.EmailAddresses) > 0 && !b.makes("promises what it cannot do"):
		return nil, permanent("emailAddresses: this server knows none")
	case b.makes("ignores its context"):
		ctx = context.WithoutCancel(ctx)
	}
	body, err := json.Marshal(map[string]any{"request": req.DER, "usages": req.Usages, "seconds": int(req.Duration.Seconds())})
	if err != nil {
		return nil, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/sign", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := b.client.Do(post)
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	defer answer.Body.Close()
	limit := int64(1 << 20)
	if b.makes("reads without end") {
		limit = 1 << 40
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, limit))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	case answer.StatusCode == http.StatusUnprocessableEntity, answer.StatusCode/100 == 5 && b.makes("calls trouble permanent"):
		return nil, permanent("the server says: %s", text)
	case answer.StatusCode/100 == 5 && b.makes("calls trouble pending"):
		return nil, &signer.PendingError{After: time.Millisecond, Reason: "the server is busy"}
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answered %s", answer.Status)
	}
	var got toyAnswer
	if err := json.Unmarshal(text, &got); err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	return signer.ParsePEM(got.Chain)
}

// toyServer signs what it is asked to.
func toyServer(t *testing.T) (*httptest.Server, *x509.Certificate) {
	t.Helper()
	s := Subject{Clock: clock.RealClock{}}
	key := Key(t, "ECDSA-P256")
	ca := s.forgeOne(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Toy CA"}}, nil, key.Public(), key)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			Request []byte
			Usages  []string
			Seconds int
		}
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		parsed, err := x509.ParseCertificateRequest(ask.Request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		leaf := &x509.Certificate{
			Subject: parsed.Subject, DNSNames: parsed.DNSNames, IPAddresses: parsed.IPAddresses, URIs: parsed.URIs,
			NotAfter: time.Now().Add(time.Duration(ask.Seconds) * time.Second),
		}
		leaf.KeyUsage, leaf.ExtKeyUsage = toyUsages(ask.Usages)
		signed := s.forgeOne(t, leaf, ca, parsed.PublicKey, key)
		_ = json.NewEncoder(w).Encode(toyAnswer{signer.EncodePEM(signed)})
	}))
	t.Cleanup(server.Close)
	return server, ca
}

func toyUsages(names []string) (usage x509.KeyUsage, extended []x509.ExtKeyUsage) {
	for _, n := range names {
		switch n {
		case "digital signature":
			usage |= x509.KeyUsageDigitalSignature
		case "key encipherment":
			usage |= x509.KeyUsageKeyEncipherment
		case "server auth":
			extended = append(extended, x509.ExtKeyUsageServerAuth)
		case "client auth":
			extended = append(extended, x509.ExtKeyUsageClientAuth)
		}
	}
	return usage, extended
}

func newToy(t *testing.T, mistakes string) Front {
	t.Helper()
	server, ca := toyServer(t)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	proxy := faultproxy.Start(t, server.URL, &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(proxy.CA))
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, InsecureSkipVerify: mistakes == "trusts anybody"}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if mistakes == "follows redirects" {
		client.CheckRedirect, client.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = nil, true
	}
	return Front{
		Subject: Subject{
			Backend: toy{client: client, url: proxy.URL, ca: ca, mistakes: mistakes}, Clock: clock.RealClock{}, Cannot: Cannot{Fields: []string{"emailAddresses"}},
		},
		Proxy: proxy,
		Signs: func(r *http.Request) bool { return r.URL.Path == "/sign" },
		Answer: func(_ []byte, chain []*x509.Certificate) []byte {
			body, err := json.Marshal(toyAnswer{signer.EncodePEM(chain...)})
			if err != nil {
				panic(err) // of bytes
			}
			return body
		},
		Refusals: map[string]Refusal{"a name": {Status: http.StatusUnprocessableEntity, Body: "web.shop.svc is not allowed", Words: "web.shop.svc is not allowed"}},
	}
}

// mistakeOf is the environment variable by which a test tells the process that it starts which mistake the toy makes.
const mistakeOf = "SIGNERTEST_MISTAKE"

func TestToy(t *testing.T) {
	front := newToy(t, os.Getenv(mistakeOf))
	Run(t, func(*testing.T) Subject { return front.Subject })
	Faults(t, func(*testing.T) Front { return front })
}

// A suite that passes every backend would be worthless: each of these mistakes must be caught, and by the test that is for it.
func TestMistakesAreCaught(t *testing.T) {
	for mistake, caught := range map[string]string{
		"no field is named":          "TestToy/names/email_address",
		"promises what it cannot do": "TestToy/names/email_address",
		"ignores its context":        "TestToy/server_hangs",
		"reads without end":          "TestToy/endless_answer",
		"calls trouble permanent":    "TestToy/503/always",
		"calls trouble pending":      "TestToy/500/for_what_signs",
		"trusts anybody":             "TestToy/certificate_of_a_stranger",
		"follows redirects":          "TestToy/redirect",
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			// #nosec G204 -- this very program
			cmd := exec.CommandContext(ctx, program, "-test.run", "^"+strings.ReplaceAll(caught, "/", "$/^")+"$")
			cmd.Env = append(os.Environ(), mistakeOf+"="+mistake)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !bytes.Contains(out, []byte("--- FAIL: "+caught)) {
				t.Errorf("the suite did not fail in %s: %v\n%s", caught, err, out)
			}
		})
	}
}
