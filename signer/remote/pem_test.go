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
		"one":                 {text: one, want: 1},
		"two":                 {text: one + two, want: 2},
		"white space":         {text: "\n\r\n" + one + "\n\n" + two + " \n", want: 2},
		"no last line's end":  {text: strings.TrimSpace(one), want: 1},
		"ten":                 {text: strings.Repeat(one, 10), want: 10},
		"nothing":             {text: " \n", err: "the chain is empty"},
		"eleven":              {text: strings.Repeat(one, 11), err: "more than 10"},
		"huge":                {text: one + strings.Repeat("\n", 200<<10), err: "allowed are"},
		"a private key":       {text: one + key, err: `certificate 2 of the chain: it is a PEM block of type "PRIVATE KEY"`},
		"text before":         {text: "hello\n" + one, err: "something else than PEM at certificate 1"},
		"text between":        {text: one + "hello\n" + two, err: "something else than PEM at certificate 2"},
		"text behind":         {text: one + "hello", err: "something else than PEM at certificate 2"},
		"cut off":             {text: one + two[:100], err: "certificate 2 of the chain: it is not a complete PEM block"},
		"broken, then a good": {text: strings.Replace(one, "-----END", "----END", 1) + two, err: "not a complete PEM block"},
		"headers":             {text: strings.Replace(one, "-----\n", "-----\nA: b\n\n", 1), err: "headers"},
		"no certificate":      {text: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", err: "parsing it"},
		"HTML":                {text: "<html>502 Bad Gateway</html>", err: "something else than PEM"},
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
		"only words":       {text: "hello", err: "vault.caBundle: it holds no certificate"},
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

// What Chain accepts is exactly what its certificates say, but for white space.
func FuzzChain(f *testing.F) {
	one := encode(keyPair(f, "one").Certificate[0])
	f.Add(one)
	f.Add(bytes.Repeat(one, 2))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		chain, err := remote.Chain(text)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range chain {
			again = append(again, encode(c.Raw)...)
		}
		squeeze := func(b []byte) string { return strings.Join(strings.Fields(string(b)), "") }
		if squeeze(again) != squeeze(text) {
			t.Errorf("the chain is\n%s\nand was read from\n%s", again, text)
		}
	})
}
