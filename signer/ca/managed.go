// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

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
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/ca/authority"
)

const (
	labelManagedBy       = "app.kubernetes.io/managed-by"
	annotationSignerName = "certwright.dev/signer-name"
	// annotationNewCA on a Signer holds the fingerprint of a lost root that a new one may take the place of.
	annotationNewCA = "certwright.dev/new-ca"

	defaultKeyAlgorithm         = "ECDSA-P256"
	defaultRootDuration         = 10 * 365 * 24 * time.Hour
	defaultIntermediateDuration = 365 * 24 * time.Hour

	// maxCommonName leaves room for " intermediate" in the 64 characters of RFC 5280's ub-common-name.
	maxCommonName = 50
)

var keyMakers = map[string]func() (crypto.Signer, error){
	"ECDSA-P256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"ECDSA-P384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"Ed25519":    func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
	"RSA-3072":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	"RSA-4096":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
}

// withDefaults fills in and checks the configuration of a managed CA.
func withDefaults(m v1alpha1.ManagedCA, signerName string) (*v1alpha1.ManagedCA, error) {
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
		return nil, fmt.Errorf("commonName %q is longer than %d bytes", m.CommonName, maxCommonName)
	case keyMakers[m.KeyAlgorithm] == nil:
		return nil, fmt.Errorf("keyAlgorithm %q is not one of %s", m.KeyAlgorithm, strings.Join(slices.Sorted(maps.Keys(keyMakers)), ", "))
	case m.RootDuration.Duration < time.Hour:
		return nil, fmt.Errorf("rootDuration %s is shorter than 1h", m.RootDuration.Duration)
	case m.IntermediateDuration.Duration < time.Hour:
		return nil, fmt.Errorf("intermediateDuration %s is shorter than 1h", m.IntermediateDuration.Duration)
	}
	return &m, nil
}

// shortened makes a long signerName fit into a common name, with a hash that keeps it apart from similar ones.
func shortened(signerName string) string {
	if len(signerName) <= maxCommonName {
		return signerName
	}
	sum := sha256.Sum256([]byte(signerName))
	return signerName[:maxCommonName-9] + "-" + hex.EncodeToString(sum[:4])
}

// newManaged makes a root, an intermediate and the Secret that holds both, so that they come to be in one write.
func (b *Backend) newManaged(now time.Time) (*corev1.Secret, error) {
	key, err := keyMakers[b.options.CA.Managed.KeyAlgorithm]()
	if err != nil {
		return nil, fmt.Errorf("making root key: %w", err)
	}
	root, err := b.newCA("root", key.Public(), now.Add(b.options.CA.Managed.RootDuration.Duration), now, nil, key)
	if err != nil {
		return nil, err
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: b.options.Namespace, Name: b.secret,
			Labels:      map[string]string{labelManagedBy: "certwright"},
			Annotations: map[string]string{annotationSignerName: b.options.SignerName},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{keyRootCert: encodeCertificate(root), keyRootKey: encoded},
	}
	return secret, b.newIntermediate(secret, root, key, now)
}

// newIntermediate puts a new intermediate of the root, with a new key, into the Secret.
func (b *Backend) newIntermediate(secret *corev1.Secret, root *x509.Certificate, rootKey crypto.Signer, now time.Time) error {
	key, err := keyMakers[b.options.CA.Managed.KeyAlgorithm]()
	if err != nil {
		return fmt.Errorf("making intermediate key: %w", err)
	}
	end := now.Add(b.options.CA.Managed.IntermediateDuration.Duration)
	if end.After(root.NotAfter) {
		end = root.NotAfter
	}
	cert, err := b.newCA("intermediate", key.Public(), end, now, root, rootKey)
	if err != nil {
		return err
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return err
	}
	secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey] = encodeCertificate(cert), encoded
	return nil
}

// newCA signs a CA certificate; without a parent it is self-signed.
func (b *Backend) newCA(role string, pub crypto.PublicKey, end, now time.Time, parent *x509.Certificate, key crypto.Signer) (*x509.Certificate, error) {
	id, err := authority.KeyIdentifier(pub)
	if err != nil {
		return nil, err
	}
	serial, err := authority.NewSerial(b.options.Rand)
	if err != nil {
		return nil, err
	}
	pathLen := 0
	if b.options.IsCA {
		pathLen++
	}
	if parent == nil {
		pathLen++
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: b.options.CA.Managed.CommonName + " " + role},
		NotBefore: now.Add(-authority.Backdate).UTC().Truncate(time.Second), NotAfter: end.UTC().Truncate(time.Second),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0,
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: id,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(b.options.Rand, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("signing the %s: %w", role, err)
	}
	return x509.ParseCertificate(der)
}

// parseManaged reads a CA that this package made, and trusts it no more than one that somebody else brought.
func (b *Backend) parseManaged(secret *corev1.Secret) (*authority.Authority, error) {
	if of, ok := secret.Annotations[annotationSignerName]; ok && of != b.options.SignerName {
		return nil, authority.Unusable(reasonSecretOfAnother, "annotation %s says that it belongs to the signerName %q, not to %q", annotationSignerName, of, b.options.SignerName)
	}
	roots, err := certificates(secret, keyRootCert)
	if err != nil {
		return nil, err
	}
	rootKey, err := privateKey(secret, keyRootKey)
	if err != nil {
		return nil, err
	}
	if _, err := authority.New(roots, nil, rootKey); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	chain, err := certificates(secret, corev1.TLSCertKey)
	if err != nil {
		return nil, err
	}
	key, err := privateKey(secret, corev1.TLSPrivateKeyKey)
	if err != nil {
		return nil, err
	}
	a, err := authority.New(chain, roots, key)
	if err != nil {
		return nil, err
	}
	a.RootKey = rootKey
	return a, nil
}

// renewalDue reports whether two thirds of the life of a managed intermediate have passed and its root can give it more.
func renewalDue(a *authority.Authority, now time.Time) bool {
	if a.RootKey == nil {
		return false
	}
	root := a.Anchors[0]
	due := a.Cert.NotBefore.Add(a.Cert.NotAfter.Sub(a.Cert.NotBefore) * 2 / 3)
	return !now.Before(due) && root.NotAfter.After(a.Cert.NotAfter) && root.NotAfter.Sub(now) > authority.ExpiryMargin
}
