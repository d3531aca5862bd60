// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keystore_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/certwright/certwright/keystore"
)

const password = "5e1f-a secret"

var formats = []keystore.Format{keystore.PKCS12, keystore.JKS}

// certificate returns a self-signed certificate of the key.
func certificate(t *testing.T, key crypto.Signer, name string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), NotAfter: time.Date(2036, 5, 4, 3, 2, 1, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ecdsaKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// roots returns CA certificates. The first two have the same subject.
func roots(t *testing.T) []*x509.Certificate {
	t.Helper()
	return []*x509.Certificate{
		certificate(t, ecdsaKey(t), "Example Root"), certificate(t, ecdsaKey(t), "Example Root"), certificate(t, ecdsaKey(t), "Wurzel für Größe"),
	}
}

// trusted returns the certificates of a truststore, and the aliases where the format has them.
func trusted(t *testing.T, format keystore.Format, text []byte, password string) ([]*x509.Certificate, error) {
	t.Helper()
	if format == keystore.PKCS12 {
		return pkcs12.DecodeTrustStore(text, password)
	}
	store := jks.New(jks.WithCaseExactAliases())
	if err := store.Load(bytes.NewReader(text), []byte(password)); err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, alias := range store.Aliases() {
		if alias != strings.ToLower(alias) {
			t.Errorf("alias %q is not lower-case", alias)
		}
		e, err := store.GetTrustedCertificateEntry(alias)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(e.Certificate.Content)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

func TestTruststoreHoldsEachCertificateOnce(t *testing.T) {
	certs := roots(t)
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			text, err := keystore.Truststore(format, append(slices.Clone(certs), certs[1]), password)
			if err != nil {
				t.Fatal(err)
			}
			got, err := trusted(t, format, text, password)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(certs) || !slices.ContainsFunc(got, certs[0].Equal) || !slices.ContainsFunc(got, certs[1].Equal) || !slices.ContainsFunc(got, certs[2].Equal) {
				t.Errorf("the truststore holds %d certificates, want the %d of the bundle", len(got), len(certs))
			}
			if _, err := trusted(t, format, text, keystore.DefaultPassword); err == nil {
				t.Error("it can be read with another password")
			}
			text[len(text)/2] ^= 1
			if _, err := trusted(t, format, text, password); err == nil {
				t.Error("one that was changed can be read")
			}
		})
	}
}

// Whoever publishes a truststore compares it with what is there.
func TestTruststoreIsTheSameForTheSame(t *testing.T) {
	certs := roots(t)
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			of := func(password string, certs ...*x509.Certificate) string {
				text, err := keystore.Truststore(format, certs, password)
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			want := of(password, certs...)
			if of(password, certs...) != want {
				t.Error("the same anchors and password give another truststore")
			}
			if of(password, certs[:2]...) == want || of(password+"!", certs...) == want {
				t.Error("other anchors or another password give the same truststore")
			}
		})
	}
}

// pair returns the key and chain of a keystore.
func pair(t *testing.T, format keystore.Format, text []byte) (crypto.PrivateKey, []*x509.Certificate) {
	t.Helper()
	if format == keystore.PKCS12 {
		key, leaf, rest, err := pkcs12.DecodeChain(text, password)
		if err != nil {
			t.Fatal(err)
		}
		return key, append([]*x509.Certificate{leaf}, rest...)
	}
	store := jks.New(jks.WithCaseExactAliases())
	if err := store.Load(bytes.NewReader(text), []byte(password)); err != nil {
		t.Fatal(err)
	}
	e, err := store.GetPrivateKeyEntry(keystore.Alias, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(e.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, entry := range e.CertificateChain {
		c, err := x509.ParseCertificate(entry.Content)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return key, chain
}

func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ECDSA": ecdsaKey(t), "RSA": rsaKey, "Ed25519": edKey}
}

func TestKeystoreHoldsKeyAndChain(t *testing.T) {
	for name, key := range keys(t) {
		chain := append([]*x509.Certificate{certificate(t, key, "web")}, roots(t)...)
		for _, format := range formats {
			t.Run(name+" "+string(format), func(t *testing.T) {
				text, err := keystore.Keystore(format, key, chain, password)
				if err != nil {
					t.Fatal(err)
				}
				got, certs := pair(t, format, text)
				if !key.(interface{ Equal(crypto.PrivateKey) bool }).Equal(got) {
					t.Error("it holds another key")
				}
				if !slices.EqualFunc(certs, chain, (*x509.Certificate).Equal) {
					t.Error("it holds another chain, or in another order")
				}
				again, err := keystore.Keystore(format, key, chain, password)
				if err != nil || bytes.Equal(text, again) {
					t.Errorf("the key is encrypted in the same way each time (%v)", err)
				}
			})
		}
	}
}

// hidden signs and does not show its key, as one in a device.
type hidden struct{ crypto.Signer }

func TestWhatIsRefused(t *testing.T) {
	key := ecdsaKey(t)
	chain := []*x509.Certificate{certificate(t, key, "web")}
	for name, c := range map[string]struct {
		format   keystore.Format
		key      crypto.PrivateKey
		chain    []*x509.Certificate
		password string
		want     string
	}{
		"no certificates":           {keystore.JKS, key, nil, password, "needs"},
		"an unknown format":         {"pkcs12", key, chain, password, `format "pkcs12" is not one of PKCS12, JKS`},
		"no format":                 {"", key, chain, password, `format "" is not one of`},
		"no password":               {keystore.PKCS12, key, chain, "", "0 characters"},
		"a short password":          {keystore.PKCS12, key, chain, "hush!", "5 characters, at least 6"},
		"a password beyond ASCII":   {keystore.JKS, key, chain, "hüsh hüsh", "not printable ASCII"},
		"a password with a line":    {keystore.JKS, key, chain, "hush hush\n", "not printable ASCII"},
		"the key of another":        {keystore.JKS, ecdsaKey(t), chain, password, "not that of the private key"},
		"no key":                    {keystore.PKCS12, nil, chain, password, "private key"},
		"a key that is not shown":   {keystore.PKCS12, hidden{key}, chain, password, "private key"},
		"a public key":              {keystore.JKS, key.Public(), chain, password, "private key"},
		"the certificate of a CA":   {keystore.JKS, key, append(roots(t), chain...), password, "not that of the private key"},
		"an invalid key":            {keystore.JKS, &ecdsa.PrivateKey{}, chain, password, "private key"},
		"a format in lower letters": {"jks", key, chain, password, "PKCS12, JKS"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := keystore.Keystore(c.format, c.key, c.chain, c.password)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), password) {
				t.Errorf("keystore: %v, want %q", err, c.want)
			}
			if c.key != key || len(c.chain) > 1 {
				return // a truststore has no key
			}
			if _, err := keystore.Truststore(c.format, c.chain, c.password); err == nil {
				t.Error("truststore: it is not refused")
			}
		})
	}
}

func TestFormats(t *testing.T) {
	for text, want := range map[string]string{"PKCS12": ".p12", "JKS": ".jks"} {
		if f, err := keystore.ParseFormat(text); err != nil || f.Extension() != want {
			t.Errorf("%s: %q, %v, want %s", text, f.Extension(), err, want)
		}
	}
	if _, err := keystore.ParseFormat("PEM"); err == nil {
		t.Error("PEM is taken")
	}
}

// openssl runs OpenSSL, with the password on its standard input.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	command := exec.CommandContext(ctx, "openssl", args...)
	command.Stdin = strings.NewReader(password)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestOpenSSLReadsPKCS12(t *testing.T) {
	certs := roots(t)
	file := func(text []byte, err error) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "store.p12")
		if err == nil {
			err = os.WriteFile(name, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	store := file(keystore.Truststore(keystore.PKCS12, certs, password))
	out := openssl(t, "pkcs12", "-in", store, "-passin", "stdin", "-nokeys", "-info")
	for _, c := range certs {
		if !strings.Contains(out, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))) {
			t.Errorf("OpenSSL finds no %s in the truststore:\n%s", c.Subject, out)
		}
	}
	if !strings.Contains(out, "friendlyName: ca-") || !strings.Contains(out, "AES-256-CBC") || !strings.Contains(out, "MAC: sha256") {
		t.Errorf("OpenSSL shows no alias, or another encryption:\n%s", out)
	}
	for name, key := range keys(t) {
		chain := append([]*x509.Certificate{certificate(t, key, "web")}, certs...)
		store := file(keystore.Keystore(keystore.PKCS12, key, chain, password))
		out := openssl(t, "pkcs12", "-in", store, "-passin", "stdin", "-noenc")
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))) || strings.Count(out, "BEGIN CERTIFICATE") != len(chain) {
			t.Errorf("%s: OpenSSL reads another key, or another chain", name)
		}
	}
}
