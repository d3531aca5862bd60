// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/dns01"
	"github.com/certwright/certwright/signer/acme/dns01/bind9"
	"github.com/certwright/certwright/signer/remote"
)

// A name and its wildcard need two records of one name at the same time, and another name in the request is proven by HTTP-01.
func TestWildcardByDNS(t *testing.T) {
	t.Parallel()
	const tsig = "c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiBhY21lISE="
	bind := bind9.Start(t, bind9.Config{
		Keys: []bind9.Key{{Name: "k", Algorithm: "hmac-sha256", Secret: tsig}},
		Zones: []bind9.Zone{{
			Name: "example.test.", Options: "update-policy { grant k zonesub TXT; };",
			Records: "@ NS ns1\nns1 A 127.0.0.1\nwww.shop A 127.0.0.1",
		}},
	})
	cluster := acmetest.NewCluster(t)
	if err := cluster.Create(t.Context(), secret("tsig", "key", []byte(tsig))); err != nil {
		t.Fatal(err)
	}
	cluster.DNS = func(config v1alpha1.ACMESolver) (challenge.Solver, error) {
		secrets := remote.Secrets{Reader: cluster.Client, Namespace: acmetest.Namespace}
		return dns01.New(dns01.Options{Secrets: secrets, AuthorityPort: uint16(bind.Port)}, *config.DNS01)
	}
	pebble := acmetest.StartPebble(t, acmetest.PebbleConfig{HTTPPort: cluster.HTTPPort(t), DNS: bind.Address()})
	r := newRig(t, cluster, pebble.Server, func(c *v1alpha1.ACME) {
		c.Solvers = []v1alpha1.ACMESolver{
			{HTTP01: &v1alpha1.HTTP01{Ingress: &v1alpha1.HTTP01Ingress{}}, Domains: []string{"www.shop.example.test"}},
			{DNS01: &v1alpha1.DNS01{
				Nameservers: []string{bind.Address()},
				RFC2136:     &v1alpha1.RFC2136{Server: bind.Address(), TSIG: &v1alpha1.TSIG{KeyName: "k", SecretRef: v1alpha1.SecretKeyRef{Name: "tsig", Key: "key"}}},
			}},
		}
	})

	chain, err := r.sign(t, request(t, "shop.example.test", "*.shop.example.test", "www.shop.example.test"))
	if err != nil {
		t.Fatalf("%v\n%s", err, bind.Output())
	}
	if !slices.Contains(chain[0].DNSNames, "*.shop.example.test") {
		t.Errorf("the certificate has the names %v", chain[0].DNSNames)
	}
	r.clean(t)
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, bind.Address())
	}}
	var missing *net.DNSError
	if left, err := resolver.LookupTXT(t.Context(), "_acme-challenge.shop.example.test."); !errors.As(err, &missing) || !missing.IsNotFound {
		t.Errorf("the record holds %q (error %v), want none", left, err)
	}
}
