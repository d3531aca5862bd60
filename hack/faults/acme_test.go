// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/dns01/bind9"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

// Pebble forgets accounts and orders, and makes new roots, whenever it starts. It proves names by DNS-01, with BIND.
func TestACME(t *testing.T) {
	run(t, "acme", func(t *testing.T, c *cluster) system {
		key := bind9.Key{Name: "certwright", Algorithm: "hmac-sha256", Secret: "ZmF1bHRzIGZhdWx0cyBmYXVsdHMgZmF1bHRzIGZhdQ=="}
		// Authoritative servers are asked at port 53, whatever other servers are told.
		dns := bind9.Start(t, bind9.Config{Port: 53, Keys: []bind9.Key{key}, Zones: []bind9.Zone{
			{Name: "load.example.com.", Options: "allow-update { key certwright; };"},
		}})
		pebble := acmetest.StartPebble(t, acmetest.PebbleConfig{DNS: dns.Address(), Profiles: map[string]int{"default": 3000}})
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(pebble.Server.CABundle))
		proxy := faultproxy.Start(t, pebble.Server.URL[:len(pebble.Server.URL)-len("/dir")], &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		c.setSecret(t, "tsig", corev1.SecretTypeOpaque, map[string][]byte{"secret": []byte(key.Secret)})
		gone := 0 // issued before it was emptied
		issued := func(*testing.T) int { return gone + strings.Count(pebble.Output(), "Issued certificate serial") }
		empty := func(t *testing.T) {
			gone = issued(t)
			pebble.Restart(t)
		}
		return system{
			process: pebble.Process, proxy: proxy, prompt: 15 * time.Second, forgets: true, issuer: "Pebble", issued: issued,
			faults: []fault{{name: "emptied", begin: empty, end: func(t *testing.T) { trust(t, c, pebble) }}},
			backend: v1alpha1.Backend{
				Name: "acme", Timeout: metav1.Duration{Duration: 5 * time.Second}, TrustAnchors: pebble.Root(t, 0),
				ACME: &v1alpha1.ACME{
					Server: v1alpha1.Server{URL: proxy.URL + "/dir", CABundle: proxy.CA}, AcceptTerms: true,
					Solvers: []v1alpha1.ACMESolver{{DNS01: &v1alpha1.DNS01{
						Nameservers: []string{dns.Address()},
						RFC2136: &v1alpha1.RFC2136{
							Server: dns.Address(), TSIG: &v1alpha1.TSIG{KeyName: key.Name, SecretRef: v1alpha1.SecretKeyRef{Name: "tsig", Key: "secret"}},
						},
					}}},
				},
			},
		}
	})
}

// trust has the Signers trust the new roots of pebble.
func trust(t *testing.T, c *cluster, pebble *acmetest.Pebble) {
	t.Helper()
	for _, name := range []string{"acme", "acme-failover"} {
		var s v1alpha1.Signer
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, &s); err != nil {
			t.Fatal(err)
		}
		s.Spec.Backends[0].TrustAnchors = pebble.Root(t, 0)
		if err := c.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}
}
