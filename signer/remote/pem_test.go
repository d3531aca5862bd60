// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/signer/remote"
)

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPair(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestChain(t *testing.T) {
	one, two := string(encode(keyPair(t, "one").Certificate[0])), string(encode(keyPair(t, "two").Certificate[0]))
	key := "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	for name, c := range map[string]struct {
		text string
		want int
		err  string
	}{
		"one":            {text: one, want: 1},
		"two":            {text: one + two, want: 2},
		"ten":            {text: strings.Repeat(one, 10), want: 10},
		"nothing":        {text: " \n", err: "there is no PEM block"},
		"eleven":         {text: strings.Repeat(one, 11), err: "the chain has 11 certificates, allowed are 10"},
		"huge":           {text: one + strings.Repeat("\n", 200<<10), err: "bytes, allowed are 131072"},
		"a private key":  {text: one + key, err: `of type "PRIVATE KEY"`},
		"cut off":        {text: one + two[:100], err: "certificate 2 is not a complete PEM block"},
		"no certificate": {text: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", err: "parsing certificate 1"},
		"HTML":           {text: "<html>502 Bad Gateway</html>", err: "there is no PEM block"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := remote.Chain([]byte(c.text))
			if c.err != "" {
				wantError(t, err, c.err)
				return
			}
			if err != nil || len(got) != c.want {
				t.Errorf("got %d certificates and the error %v, want %d", len(got), err, c.want)
			}
		})
	}
}

func TestCertificatesOfAPerson(t *testing.T) {
	one, two := string(encode(keyPair(t, "one").Certificate[0])), string(encode(keyPair(t, "two").Certificate[0]))
	for name, c := range map[string]struct {
		text string
		want int
		err  string
	}{
		"nothing":          {},
		"described":        {text: "# the first\n" + one + "# the second\n" + two + "# end\n", want: 2},
		"only words":       {text: "hello", err: "vault.caBundle: there is no PEM block"},
		"second is broken": {text: one + strings.Replace(two, "-----END", "----END", 1), err: "vault.caBundle: certificate 2"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := remote.Certificates(c.text, "vault.caBundle")
			if c.err != "" {
				wantError(t, err, c.err)
				return
			}
			if err != nil || len(got) != c.want {
				t.Errorf("got %d certificates and the error %v, want %d", len(got), err, c.want)
			}
			if pool, err := remote.Pool(c.text, "vault.caBundle"); err != nil || (pool == nil) != (c.want == 0) {
				t.Errorf("got the pool %v and the error %v", pool, err)
			}
		})
	}
}

// What Chain returns is as small as it promises.
func FuzzChain(f *testing.F) {
	one := encode(keyPair(f, "one").Certificate[0])
	f.Add(one)
	f.Add(bytes.Repeat(one, 11))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		chain, err := remote.Chain(text)
		if (err == nil) != (len(chain) > 0) || len(chain) > 10 {
			t.Errorf("got %d certificates and the error %v", len(chain), err)
		}
	})
}
