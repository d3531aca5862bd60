// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acmetest

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/mholt/acmez/v3/acme"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Deactivate deactivates the account whose key is in a Secret of a cluster, as its owner could.
func Deactivate(t testing.TB, p *Pebble, c *Cluster, secret string) {
	t.Helper()
	var kept corev1.Secret
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: Namespace, Name: secret}, &kept); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(kept.Data["account.key"])
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	server := &acme.Client{Directory: p.Server.URL, HTTPClient: insecure, UserAgent: "certwright-test"}
	account, err := server.GetAccount(t.Context(), acme.Account{PrivateKey: key.(crypto.Signer)})
	if err != nil {
		t.Fatal(err)
	}
	account.Status = acme.StatusDeactivated
	if _, err := server.UpdateAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
}
