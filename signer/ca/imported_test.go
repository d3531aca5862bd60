// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/signer/signertest"
)

func TestImportedRefused(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	lower := newIssuer(t, "Lower", "ECDSA-P256", root, nil)
	other := newIssuer(t, "Other", "ECDSA-P256", nil, nil)
	spoilt := func(change func(*x509.Certificate)) *issuer { return newIssuer(t, "Spoilt", "ECDSA-P256", nil, change) }
	secret := func(i *issuer, rest ...*issuer) *corev1.Secret {
		return tlsSecret(t, i.key, append([]*issuer{i}, rest...)...)
	}
	with := func(s *corev1.Secret, key, value string) *corev1.Secret { s.Data[key] = []byte(value); return s }
	for name, c := range map[string]struct {
		secret *corev1.Secret
		reason string
		text   string
	}{
		"no secret":             {nil, "SecretNotFound", "create it with type kubernetes.io/tls"},
		"no certificate":        {with(secret(root), "tls.crt", ""), "SecretIncomplete", "tls.crt"},
		"no key":                {with(secret(root), "tls.key", " \n"), "SecretIncomplete", "tls.key"},
		"certificate no PEM":    {with(secret(root), "tls.crt", "hello"), "CertificateInvalid", "tls.crt"},
		"certificate cut off":   {with(secret(root), "tls.crt", string(pemCerts(root)[:200])), "CertificateInvalid", "complete"},
		"second cut off":        {with(secret(root), "tls.crt", string(pemCerts(root))+"-----BEGIN CERT"), "CertificateInvalid", "certificate 2"},
		"certificate no DER":    {with(secret(root), "tls.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "CertificateInvalid", "parsing certificate 1"},
		"key in certificate":    {with(secret(root), "tls.crt", string(pemKey(t, root.key))), "CertificateInvalid", "PRIVATE KEY"},
		"key no PEM":            {with(secret(root), "tls.key", "hello"), "KeyInvalid", "tls.key"},
		"key no DER":            {with(secret(root), "tls.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "KeyInvalid", "tls.key"},
		"key encrypted":         {with(secret(root), "tls.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "KeyInvalid", "passphrase"},
		"two keys":              {with(secret(root), "tls.key", strings.Repeat(string(pemKey(t, root.key)), 2)), "KeyInvalid", "more than one"},
		"certificate in key":    {with(secret(root), "tls.key", string(pemCerts(root))), "KeyInvalid", "CERTIFICATE"},
		"another's key":         {tlsSecret(t, other.key, root), "KeyMismatch", "Root"},
		"a key of another kind": {tlsSecret(t, signertest.Key(t, "Ed25519"), root), "KeyMismatch", "Root"},
		"no CA":                 {secret(spoilt(func(c *x509.Certificate) { c.IsCA = false })), "NotACA", "CA:TRUE"},
		"no basic constraints":  {secret(spoilt(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false })), "NotACA", "CA:TRUE"},
		"may not sign":          {secret(spoilt(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })), "KeyUsageForbidsSigning", "certificate signing"},
		"empty subject":         {secret(spoilt(func(c *x509.Certificate) { c.Subject = pkix.Name{} })), "CertificateInvalid", "empty subject"},
		"unknown critical": {secret(spoilt(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})), "CertificateInvalid", "1.2.3"},
		"expired":              {secret(spoilt(func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) })), "CAExpired", "put a new CA into Secret certwright-system/my-ca"},
		"expires in 9 minutes": {secret(spoilt(func(c *x509.Certificate) { c.NotAfter = start.Add(9 * time.Minute) })), "CAExpiring", "too soon"},
		"from tomorrow":        {secret(spoilt(func(c *x509.Certificate) { c.NotBefore = start.Add(24 * time.Hour) })), "CANotYetValid", "not valid before"},
		"root expired": {func() *corev1.Secret {
			r := spoilt(func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Hour) })
			return secret(newIssuer(t, "Lower", "ECDSA-P256", r, nil), r)
		}(), "CAExpired", "Lower"},
		"no root":        {secret(lower), "NoTrustAnchor", "issued by CN=Root"},
		"another root":   {secret(lower, other), "CertificateInvalid", "not signed by certificate 2"},
		"another ca.crt": {with(secret(lower, root), "ca.crt", string(pemCerts(other))), "NoTrustAnchor", "ca.crt"},
		"broken ca.crt":  {with(secret(lower, root), "ca.crt", "hello"), "CertificateInvalid", "ca.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, importedCA(), false)
			if c.secret != nil {
				w = newWorld(t, importedCA(), false, c.secret)
			}
			_, signErr := w.sign(time.Hour)
			wantTrouble(t, signErr)
			err := w.Check(t.Context())
			wantReason(t, err, c.reason)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Check: %v, want it to say %q", err, c.text)
			}
			if w.writes != 0 {
				t.Errorf("%d writes to an administrator's Secret", w.writes)
			}
		})
	}
}

func TestPathLengthOfChain(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	lower := newIssuer(t, "Lower", "ECDSA-P256", root, nil)
	w := newWorld(t, importedCA(), false, tlsSecret(t, lower.key, lower, root))
	wantReason(t, w.Check(t.Context()), "CertificateInvalid")
}

func TestKeyFormats(t *testing.T) {
	rsaRoot, ecRoot := newIssuer(t, "Root", "RSA-2048", nil, nil), newIssuer(t, "Root", "ECDSA-P384", nil, nil)
	for name, c := range map[string]struct {
		root *issuer
		key  []byte
	}{
		"PKCS #8": {rsaRoot, pemKey(t, rsaRoot.key)},
		"PKCS #1": {rsaRoot, pkcs1(t, rsaRoot.key)},
		"SEC 1":   {ecRoot, sec1(t, ecRoot.key)},
		"SEC 1 behind parameters": {ecRoot, append([]byte("-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"),
			sec1(t, ecRoot.key)...)},
	} {
		t.Run(name, func(t *testing.T) {
			s := tlsSecret(t, c.root.key, c.root)
			s.Data["tls.key"] = c.key
			s.Data["tls.crt"] = append([]byte("Certificate of the root:\n"), s.Data["tls.crt"]...)
			newWorld(t, importedCA(), false, s).mustSign(time.Hour)
		})
	}
}

func TestTrustAnchorsAndChain(t *testing.T) {
	root := newIssuer(t, "Root", "ECDSA-P256", nil, nil)
	next := newIssuer(t, "Next root", "ECDSA-P256", nil, nil)
	upper := newIssuer(t, "Upper", "ECDSA-P256", root, nil)
	lower := newIssuer(t, "Lower", "ECDSA-P256", upper, nil)
	for name, c := range map[string]struct {
		chain, caCrt, anchors, issuers []*issuer
	}{
		"root in the file":     {[]*issuer{lower, upper, root}, nil, []*issuer{root}, []*issuer{lower, upper}},
		"root in ca.crt":       {[]*issuer{lower, upper}, []*issuer{root}, []*issuer{root}, []*issuer{lower, upper}},
		"two roots in ca.crt":  {[]*issuer{lower, upper, root}, []*issuer{next, root}, []*issuer{root, next}, []*issuer{lower, upper}},
		"issuer trusted alone": {[]*issuer{lower}, []*issuer{upper}, []*issuer{upper}, []*issuer{lower}},
		"root alone":           {[]*issuer{root}, nil, []*issuer{root}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := tlsSecret(t, c.chain[0].key, c.chain...)
			if c.caCrt != nil {
				s.Data["ca.crt"] = pemCerts(c.caCrt...)
			}
			w := newWorld(t, importedCA(), false, s)
			anchors, err := w.TrustAnchors(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantCerts(t, "trust anchors", anchors, c.anchors)
			wantCerts(t, "chain behind the leaf", w.mustSign(time.Hour)[1:], c.issuers)
		})
	}
}

func wantCerts(t *testing.T, what string, got []*x509.Certificate, want []*issuer) {
	t.Helper()
	var b bytes.Buffer
	for _, c := range got {
		b.Write(pemCerts(&issuer{cert: c}))
	}
	if !bytes.Equal(b.Bytes(), pemCerts(want...)) {
		t.Errorf("%s: got %d certificates, want the %d certificates given", what, len(got), len(want))
	}
}
