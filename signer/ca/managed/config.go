// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package managed is what the Secret of a CA holds that Certwright makes and renews itself: a root and an intermediate with their keys,
// while the root is being replaced the other root, and how far that is.
//
// It promises that all of a step is in one set of entries, and that what it reads back is trusted no more than what somebody else
// brought: parts that do not fit together are refused as a whole.
package managed

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca/authority"
)

const (
	defaultKeyAlgorithm         = "ECDSA-P256"
	defaultRootDuration         = 10 * 365 * 24 * time.Hour
	defaultIntermediateDuration = 365 * 24 * time.Hour

	// maxCommonName leaves room for " root 01234567" in the 64 characters of RFC 5280's ub-common-name.
	maxCommonName = 50
)

var keyMakers = map[string]func() (crypto.Signer, error){
	"ECDSA-P256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"ECDSA-P384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"Ed25519":    func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
	"RSA-3072":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	"RSA-4096":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
}

// Config is what a CA is made from.
type Config struct {
	ca v1alpha1.ManagedCA
	// isCA is true if the CA signs CA certificates.
	isCA bool
	rand io.Reader
}

// NewConfig fills in and checks the configuration of the CA of a signerName, whose serial numbers come from random. The error begins
// with the field below managed.
func NewConfig(m v1alpha1.ManagedCA, signerName string, isCA bool, random io.Reader) (Config, error) {
	if m.CommonName == "" {
		m.CommonName = shortened(signerName)
	}
	if m.KeyAlgorithm == "" {
		m.KeyAlgorithm = defaultKeyAlgorithm
	}
	if m.RootDuration.Duration == 0 {
		m.RootDuration.Duration = defaultRootDuration
	}
	if m.IntermediateDuration.Duration == 0 {
		m.IntermediateDuration.Duration = defaultIntermediateDuration
	}
	switch {
	case len(m.CommonName) > maxCommonName:
		return Config{}, fmt.Errorf("commonName %q is longer than %d bytes", m.CommonName, maxCommonName)
	case keyMakers[m.KeyAlgorithm] == nil:
		return Config{}, fmt.Errorf("keyAlgorithm %q is not one of %s", m.KeyAlgorithm, strings.Join(slices.Sorted(maps.Keys(keyMakers)), ", "))
	case m.RootDuration.Duration < time.Hour:
		return Config{}, fmt.Errorf("rootDuration %s is shorter than 1h", m.RootDuration.Duration)
	case m.IntermediateDuration.Duration < time.Hour:
		return Config{}, fmt.Errorf("intermediateDuration %s is shorter than 1h", m.IntermediateDuration.Duration)
	}
	return Config{ca: m, isCA: isCA, rand: random}, nil
}

// shortened makes a long signerName fit into a common name, with a hash that keeps it apart from similar ones.
func shortened(signerName string) string {
	if len(signerName) <= maxCommonName {
		return signerName
	}
	sum := sha256.Sum256([]byte(signerName))
	return signerName[:maxCommonName-9] + "-" + hex.EncodeToString(sum[:4])
}

func (c Config) newKey(role string) (crypto.Signer, error) {
	key, err := keyMakers[c.ca.KeyAlgorithm]()
	if err != nil {
		return nil, fmt.Errorf("making the key of the %s: %w", role, err)
	}
	return key, nil
}

// newRoot makes a self-signed root. Its name is its own, so that no verifier takes another root for it.
func (c Config) newRoot(now time.Time) (*x509.Certificate, crypto.Signer, error) {
	key, err := c.newKey("root")
	if err != nil {
		return nil, nil, err
	}
	id, err := authority.KeyIdentifier(key.Public())
	if err != nil {
		return nil, nil, err
	}
	template := c.template(fmt.Sprintf("root %x", id[:4]), now, now.Add(c.ca.RootDuration.Duration), 2)
	root, err := c.sign(template, template, key.Public(), key)
	return root, key, err
}

// newIntermediate makes a CA certificate below a root.
func (c Config) newIntermediate(now time.Time, root *x509.Certificate, rootKey crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	key, err := c.newKey("intermediate")
	if err != nil {
		return nil, nil, err
	}
	template := c.template("intermediate", now, earlier(now.Add(c.ca.IntermediateDuration.Duration), root.NotAfter), 0)
	cert, err := c.sign(template, root, key.Public(), rootKey)
	return cert, key, err
}

// newCross makes a certificate of a new root below an old one, by which whoever knows only the old one verifies what the new one signed.
// It is nil if the old one has no room for it.
func (c Config) newCross(now time.Time, root, old *x509.Certificate, oldKey crypto.Signer) (*x509.Certificate, error) {
	if !hasRoom(old, root) {
		return nil, nil
	}
	template := c.template("", now, earlier(root.NotAfter, old.NotAfter), 0)
	template.RawSubject, template.Subject = root.RawSubject, root.Subject
	template.MaxPathLen, template.MaxPathLenZero = root.MaxPathLen-1, root.MaxPathLen == 1
	return c.sign(template, old, root.PublicKey, oldKey)
}

// hasRoom reports whether the path length of an old root allows the cross certificate of a new one, which itself allows all that the
// new one does but for another cross certificate. Roots of earlier versions of Certwright had no such room.
func hasRoom(old, root *x509.Certificate) bool {
	return root.MaxPathLen > 0 && (old.MaxPathLen < 0 || old.MaxPathLen >= root.MaxPathLen)
}

// template is a CA certificate that as many others may come below as given, and one more if it is to sign CA certificates.
func (c Config) template(role string, now, end time.Time, below int) *x509.Certificate {
	if c.isCA {
		below++
	}
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: c.ca.CommonName + " " + role},
		NotBefore: now.Add(-authority.Backdate).UTC().Truncate(time.Second), NotAfter: end.UTC().Truncate(time.Second),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: below, MaxPathLenZero: below == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// sign makes the certificate of a template for a key, signed by the key of a parent.
func (c Config) sign(template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	var err error
	if template.SubjectKeyId, err = authority.KeyIdentifier(public); err != nil {
		return nil, err
	}
	if template.SerialNumber, err = authority.NewSerial(c.rand); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(c.rand, template, parent, public, by)
	if err != nil {
		return nil, fmt.Errorf("signing the CA certificate %s: %w", template.Subject, err)
	}
	return x509.ParseCertificate(der)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
