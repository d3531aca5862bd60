// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"path"
	"testing"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

// behind starts a proxy in front of the server.
func (s *server) behind(t *testing.T) *faultproxy.Proxy {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.serving.cert)
	return faultproxy.Start(t, "https://"+s.address, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
}

// signs is about both endpoints: one tells the leaf, the other the CA above it.
func signs(r *http.Request) bool {
	return path.Base(r.URL.Path) == "authsign" || path.Base(r.URL.Path) == "info"
}

// answer puts the leaf of a chain into the answer of authsign, and the CA into that of info.
func answer(body []byte, chain []*x509.Certificate) []byte {
	var a map[string]any
	if err := json.Unmarshal(body, &a); err != nil {
		return body
	}
	result, ok := a["result"].(map[string]any)
	if !ok {
		return body
	}
	_, isInfo := result["usages"]
	switch {
	case !isInfo:
		chain = chain[:1]
	default:
		chain = chain[1:]
	}
	result["certificate"] = string(signer.EncodePEM(chain...))
	changed, err := json.Marshal(a)
	if err != nil {
		return body
	}
	return changed
}

func TestFaults(t *testing.T) {
	signertest.Faults(t, func(t *testing.T) signertest.Front {
		s := configure(t, newCertificate(t, "Root", "ECDSA-P256", nil, nil), map[string]profile{"workloads": workloads()}).multiroot(t)
		proxy := s.behind(t)
		config := s.config()
		config.URL, config.CABundle, config.Label = proxy.URL, proxy.CA, "workloads"
		front := signertest.Front{Subject: subject(newBackend(t, config, secret(authKey))), Proxy: proxy, Signs: signs, Answer: answer}
		front.Cannot = signertest.Cannot{OtherUsages: fixedUsages()}
		front.Refusals = map[string]signertest.Refusal{
			"names":   {Status: 400, Body: `{"success":false,"result":null,"errors":[{"code":5500,"message":"Request does not match policy whitelist"}]}`, Words: "does not match policy whitelist"},
			"request": {Status: 400, Body: `{"success":false,"result":null,"errors":[{"code":9002,"message":"CSR Decode failed"}]}`, Words: "CSR Decode failed"},
			"lint":    {Status: 500, Body: `{"success":false,"result":null,"errors":[{"code":0,"message":"pre-issuance linting found 2 error results"}]}`, Words: "linting found 2"},
		}
		return front
	})
}

// The real server goes away, stops and starts over.
func TestServerFaults(t *testing.T) {
	s := configure(t, newCertificate(t, "Root", "ECDSA-P256", nil, nil), map[string]profile{"workloads": workloads()}).serve(t)
	b := newBackend(t, s.config(), secret(authKey))
	mustSign(t, b)
	s.Pause()
	signertest.WantError(t, signFor(t, b, soon), "trouble", "deadline exceeded")
	s.Resume()
	mustSign(t, b)
	s.Kill()
	signertest.WantError(t, signFor(t, b, soon), "trouble", "connection refused")
	signertest.WantError(t, b.Check(t.Context()), "trouble", "connection refused")

	other := newCertificate(t, "Another root", "ECDSA-P256", nil, nil)
	s.certify(t, other)
	s.Restart(t)
	if chain := mustSign(t, b); chain[0].CheckSignatureFrom(other.cert) != nil {
		t.Error("the leaf is not signed by the server's new CA")
	}
	if anchors, err := b.TrustAnchors(t.Context()); err != nil || !anchors[0].Equal(other.cert) {
		t.Errorf("trust anchors are %v, error %v", anchors, err)
	}
}
