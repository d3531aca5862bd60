// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/certwright/certwright/signer/signertest"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
	"github.com/certwright/certwright/signer/vault"
)

func TestFaults(t *testing.T) {
	s := newVault(t)
	signertest.Faults(t, func(t *testing.T) signertest.Front {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(s.ca))
		proxy := faultproxy.Start(t, s.url, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		w := s.newBackend(t, tokenAuth(), tokenSecret(s.newToken(t, "")), func(o *vault.Options) {
			o.Vault.URL, o.Vault.CABundle = proxy.URL, proxy.CA
		})
		return signertest.Front{
			Subject: signertest.Subject{Backend: w, Clock: w.clock, Cannot: cannot},
			Proxy:   proxy,
			Signs:   func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v1/pki/sign/") },
			Answer:  withChain,
			Refusals: map[string]signertest.Refusal{
				"a name": {
					Status: http.StatusBadRequest, Body: `{"errors":["common name bank.example.org not allowed by this role"]}`,
					Words: "common name bank.example.org not allowed by this role",
				},
			},
		}
	})
}

// withChain puts a chain into what Vault answers to sign/ROLE.
func withChain(body []byte, chain []*x509.Certificate) []byte {
	var answer map[string]any
	if json.Unmarshal(body, &answer) != nil {
		return body
	}
	above := []string{}
	for _, c := range chain[1:] {
		above = append(above, encode(c))
	}
	data := map[string]any{"certificate": encode(chain[0]), "ca_chain": above}
	if len(above) > 0 {
		data["issuing_ca"] = above[0]
	}
	answer["data"] = data
	changed, err := json.Marshal(answer)
	if err != nil {
		return body
	}
	return changed
}
