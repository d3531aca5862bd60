// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package venafi_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
	"github.com/certwright/certwright/signer/venafi/venafitest"
)

func tppSubject(t *testing.T, s *venafitest.TPP, w *world) signertest.Subject {
	t.Helper()
	return signertest.Subject{
		Backend: w.backend(tppConfig(s), clock.RealClock{}), Clock: clock.RealClock{}, Anchors: []*x509.Certificate{s.Root},
		Cannot: signertest.Cannot{OtherUsages: venafitest.Usages, Keys: []string{"Ed25519"}},
	}
}

func cloudSubject(t *testing.T, s *venafitest.Cloud, w *world) signertest.Subject {
	t.Helper()
	return signertest.Subject{
		Backend: w.backend(cloudConfig(s), clock.RealClock{}), Clock: clock.RealClock{}, Anchors: []*x509.Certificate{s.Root},
		Cannot: signertest.Cannot{OtherUsages: venafitest.Usages, OtherLifetimes: time.Hour, Keys: []string{"Ed25519"}},
	}
}

func TestConformanceTPP(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		return tppSubject(t, venafitest.NewTPP(t), newWorld(t, passwordSecret()))
	})
}

func TestConformanceTPPForbids(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		s := venafitest.NewTPP(t)
		s.Set(venafitest.NoURIs, venafitest.NoIPs, venafitest.NoEmails, venafitest.NoWildcards)
		made := tppSubject(t, s, newWorld(t, passwordSecret()))
		made.Cannot.Fields, made.Cannot.Wildcards = []string{"uris", "ipAddresses", "emailAddresses"}, true
		return made
	})
}

func TestConformanceCloud(t *testing.T) {
	signertest.Run(t, func(t *testing.T) signertest.Subject {
		return cloudSubject(t, venafitest.NewCloud(t), newWorld(t, keySecret()))
	})
}

// proxy starts one in front of a server.
func proxy(t *testing.T, url, serverCA string) *faultproxy.Proxy {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(serverCA))
	return faultproxy.Start(t, url, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
}

func TestFaultsTPP(t *testing.T) {
	signertest.Faults(t, func(t *testing.T) signertest.Front {
		s := venafitest.NewTPP(t)
		p := proxy(t, s.URL, s.ServerCA)
		s.URL, s.ServerCA = p.URL, p.CA
		return signertest.Front{
			Subject: tppSubject(t, s, newWorld(t, passwordSecret())), Proxy: p,
			Signs: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/retrieve") },
			Answer: func(body []byte, chain []*x509.Certificate) []byte {
				var a map[string]any
				if json.Unmarshal(body, &a) != nil || a["CertificateData"] == nil {
					return body
				}
				a["CertificateData"] = base64.StdEncoding.EncodeToString(signer.EncodePEM(chain...))
				changed, err := json.Marshal(a)
				if err != nil {
					t.Error(err)
				}
				return changed
			},
		}
	})
}

func TestFaultsCloud(t *testing.T) {
	signertest.Faults(t, func(t *testing.T) signertest.Front {
		s := venafitest.NewCloud(t)
		p := proxy(t, s.URL, s.ServerCA)
		s.URL, s.ServerCA = p.URL, p.CA
		return signertest.Front{
			Subject: cloudSubject(t, s, newWorld(t, keySecret())), Proxy: p,
			Signs: func(r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/contents") || strings.HasSuffix(r.URL.Path, "/certificaterequests")
			},
			Answer: func(body []byte, chain []*x509.Certificate) []byte {
				if !strings.HasPrefix(string(body), "-----BEGIN") {
					return body
				}
				return signer.EncodePEM(chain...)
			},
			Refusals: map[string]signertest.Refusal{
				"template": {Status: 400, Body: `{"errors":[{"code":10704,"message":"Common name is not allowed","args":[]}]}`, Words: "Common name is not allowed"},
			},
		}
	})
}

// The server takes a request, and its answer is lost: it is found again.
func TestTPPLostAnswer(t *testing.T) {
	s := venafitest.NewTPP(t)
	p := proxy(t, s.URL, s.ServerCA)
	s.URL, s.ServerCA = p.URL, p.CA
	b := newWorld(t, passwordSecret()).backend(tppConfig(s), clock.RealClock{})
	req := request(t, dns("web.example.com"))
	p.Break(faultproxy.Only(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/request") }, faultproxy.Cut))
	_, err := b.Sign(t.Context(), req)
	signertest.WantError(t, err, "trouble", "requesting the certificate")
	p.Mend(t)
	mustSign(t, b, req)
	if s.Requests() != 1 || s.Issued() != 1 {
		t.Errorf("%d requests, %d certificates, want 1", s.Requests(), s.Issued())
	}
}

// Names that a server chooses lead nowhere else.
func TestHostileNames(t *testing.T) {
	for what, body := range map[string]string{
		"request":     `{"certificateRequests":[{"id":"../../../v1/useraccounts"}]}`,
		"two":         `{"certificateRequests":[{"id":"a"},{"id":"b"}]}`,
		"certificate": `{"certificateRequests":[{"id":"a"}],"status":"ISSUED","certificateIds":["../../v1/useraccounts"]}`,
	} {
		t.Run(what, func(t *testing.T) {
			s := venafitest.NewCloud(t)
			p := proxy(t, s.URL, s.ServerCA)
			s.URL, s.ServerCA = p.URL, p.CA
			b := newWorld(t, keySecret()).backend(cloudConfig(s), clock.RealClock{})
			p.Break(faultproxy.Only(func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/certificaterequests") }, faultproxy.Answer(http.StatusOK, nil, body)))
			_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
			signertest.WantError(t, err, "trouble", "the server")
		})
	}
	s := venafitest.NewTPP(t)
	p := proxy(t, s.URL, s.ServerCA)
	s.URL, s.ServerCA = p.URL, p.CA
	b := newWorld(t, passwordSecret()).backend(tppConfig(s), clock.RealClock{})
	p.Break(faultproxy.Only(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/request") },
		faultproxy.Answer(http.StatusOK, nil, `{"CertificateDN":"\\VED\\Policy\\Bank\\www.bank.example.org"}`)))
	_, err := b.Sign(t.Context(), request(t, dns("web.example.com")))
	signertest.WantError(t, err, "trouble", "www.bank.example.org")
}
