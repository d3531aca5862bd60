// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keystore writes certificates and keys in the two formats that Java reads: PKCS #12 (RFC 7292) and JKS.
//
// It promises that the same trust anchors and password always give the same truststore, byte for byte, so that whoever publishes one
// can compare it with what is there; that every certificate has an entry of its own, also where several have one subject, as the
// roots of a CA that is replaced do; and that no error holds a password or a key. It is small: the agent is linked with it.
package keystore

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Format is a format of keystores and truststores.
type Format string

// The formats.
const (
	// PKCS12 is encrypted with AES-256 and authenticated with SHA-256, which OpenSSL 1.1.1, Java 8u301 and Java 12 read.
	PKCS12 Format = "PKCS12"
	// JKS is what Java had before. Its encryption is weak: the file is to be kept as secret as the key in it.
	JKS Format = "JKS"
)

const (
	// DefaultPassword is the password of truststores that protects nothing, as Java has none without one.
	DefaultPassword = pkcs12.DefaultPassword
	// Alias is the alias of the key in a keystore: what Java calls an entry of a PKCS #12 file that has no name.
	Alias = "1"
)

// minPassword is the length of the shortest password in bytes that Java's keytool takes.
const minPassword = 6

// encoder is of PKCS #12 that OpenSSL 3 and Java 20 would write.
var encoder = pkcs12.Modern2023

// ParseFormat reads a format by its name.
func ParseFormat(s string) (Format, error) {
	if f := Format(s); f == PKCS12 || f == JKS {
		return f, nil
	}
	return "", fmt.Errorf("format %q is not one of %s, %s", s, PKCS12, JKS)
}

// Extension returns the end of the names of files in the format: ".p12" or ".jks".
func (f Format) Extension() string {
	if f == JKS {
		return ".jks"
	}
	return ".p12"
}

// Truststore returns a truststore of these certificates, each once. The password has at least 6 printable ASCII characters.
// The alias of an entry is "ca-" and the first half of the SHA-256 fingerprint of its certificate in lower-case hexadecimal digits.
func Truststore(format Format, certs []*x509.Certificate, password string) ([]byte, error) {
	if err := check(format, password); err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errors.New("a truststore needs at least one certificate")
	}
	store := keystore.New(keystore.WithOrderedAliases())
	var entries []pkcs12.TrustStoreEntry
	// What is random in an encrypted file is made from what is in it, and never from the password, which could be guessed from it.
	salts := sha3.NewSHAKE256()
	for _, c := range certs {
		alias := aliasOf(c)
		if store.IsTrustedCertificateEntry(alias) {
			continue
		}
		if err := store.SetTrustedCertificateEntry(alias, keystore.TrustedCertificateEntry{CreationTime: c.NotBefore, Certificate: entry(c)}); err != nil {
			return nil, fmt.Errorf("adding certificate %s: %w", alias, err)
		}
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: c, FriendlyName: alias})
		_, _ = salts.Write(c.Raw) // it never fails
	}
	if format == JKS {
		return jks(store, password)
	}
	text, err := encoder.WithRand(salts).EncodeTrustStoreEntries(entries, password)
	if err != nil {
		return nil, fmt.Errorf("encoding a truststore as %s: %w", format, err)
	}
	return text, nil
}

// Keystore returns a keystore of a private key that x509.MarshalPKCS8PrivateKey takes, and its chain, the certificate of the key
// first. The password has at least 6 printable ASCII characters. The key's own password is the same, as PKCS #12 knows no other.
func Keystore(format Format, key crypto.PrivateKey, chain []*x509.Certificate, password string) ([]byte, error) {
	if err := check(format, password); err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("a keystore needs the certificate of its key")
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key of type %T: %w", key, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T does not sign", key)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil || !bytes.Equal(public, chain[0].RawSubjectPublicKeyInfo) {
		return nil, errors.New("the first certificate is not that of the private key")
	}
	if format == PKCS12 {
		text, err := encoder.Encode(key, chain[0], chain[1:], password)
		if err != nil {
			return nil, fmt.Errorf("encoding a keystore as %s: %w", format, err)
		}
		return text, nil
	}
	store := keystore.New()
	certs := make([]keystore.Certificate, 0, len(chain))
	for _, c := range chain {
		certs = append(certs, entry(c))
	}
	err = store.SetPrivateKeyEntry(Alias, keystore.PrivateKeyEntry{CreationTime: chain[0].NotBefore, PrivateKey: pkcs8, CertificateChain: certs}, []byte(password))
	if err != nil {
		return nil, fmt.Errorf("adding the private key: %w", err)
	}
	return jks(store, password)
}

// check refuses what one of the formats, or a program that reads it, would take otherwise.
func check(format Format, password string) error {
	if _, err := ParseFormat(string(format)); err != nil {
		return err
	}
	if len(password) < minPassword {
		return fmt.Errorf("the password has %d characters, at least %d are needed", len(password), minPassword)
	}
	if slices.ContainsFunc([]byte(password), func(b byte) bool { return b < ' ' || b > '~' }) {
		return errors.New("the password holds a character that is not printable ASCII, which not all programs read alike")
	}
	return nil
}

func aliasOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return "ca-" + hex.EncodeToString(sum[:len(sum)/2])
}

func entry(c *x509.Certificate) keystore.Certificate {
	return keystore.Certificate{Type: "X.509", Content: c.Raw}
}

func jks(store keystore.KeyStore, password string) ([]byte, error) {
	var text bytes.Buffer
	if err := store.Store(&text, []byte(password)); err != nil {
		return nil, fmt.Errorf("encoding as %s: %w", JKS, err)
	}
	return text.Bytes(), nil
}
