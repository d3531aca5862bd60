// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signer_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/internal/example"
)

func TestParsePEM(t *testing.T) {
	root, other := string(signer.EncodePEM(example.Root.Certificate)), string(signer.EncodePEM(example.Stranger.Certificate))
	both := []*x509.Certificate{example.Root.Certificate, example.Stranger.Certificate}
	for name, c := range map[string]struct {
		text string
		want []*x509.Certificate
		err  string
	}{
		"as it is written":     {string(signer.EncodePEM(both...)), both, ""},
		"with words":           {"# the old one\n" + root + "# the new one\n" + other + "# the end\n", both, ""},
		"nothing":              {string(signer.EncodePEM()), nil, "no PEM block"},
		"no PEM":               {"root", nil, "no PEM block"},
		"a key":                {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", nil, "only CERTIFICATE"},
		"cut off":              {root + "-----BEGIN CERTIFICATE-----\nAAAA\n", nil, "certificate 2 is not a complete PEM block"},
		"cut off in between":   {"-----BEGIN CERTIFICATE-----\nAAAA\n" + root, nil, "certificate 1 is not a complete PEM block"},
		"headers":              {strings.Replace(root, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1), nil, "headers"},
		"no certificate in it": {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", nil, "parsing certificate 1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := signer.ParsePEM([]byte(c.text))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || got != nil {
					t.Errorf("%d certificates, error %v, want %q", len(got), err, c.err)
				}
				return
			}
			if err != nil || !slices.EqualFunc(got, c.want, (*x509.Certificate).Equal) {
				t.Errorf("%d certificates, error %v, want %d", len(got), err, len(c.want))
			}
		})
	}
}
