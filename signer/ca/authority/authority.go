// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package authority is one CA certificate with its key: whether it can sign, what it forbids, and the certificates that it signs, built
// from the fields of a request and compared with it afterwards.
package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certwright/certwright/signer"
)

// The reasons of the *signer.CheckErrors of this package.
const (
	ReasonCertificateInvalid     = "CertificateInvalid"     // the CA certificate or its chain cannot be used
	ReasonKeyMismatch            = "KeyMismatch"            // the key is not the CA certificate's
	ReasonUnsupportedKey         = "UnsupportedKey"         // the key is too weak, or of another kind
	ReasonNotACA                 = "NotACA"                 // the certificate is not one of a CA
	ReasonKeyUsageForbidsSigning = "KeyUsageForbidsSigning" // the CA may not sign certificates
	ReasonNoTrustAnchor          = "NoTrustAnchor"          // the chain leads nowhere
	ReasonCAExpired              = "CAExpired"              // its time is over
	ReasonCAExpiring             = "CAExpiring"             // its time is over in less than ExpiryMargin
	ReasonCANotYetValid          = "CANotYetValid"          // its time has not come
)

// ExpiryMargin is the remaining life of a CA below which it no longer signs: the shortest lifetime that a
// CertificateSigningRequest may ask for, so that nobody gets a certificate that is over before it is in use.
const ExpiryMargin = 10 * time.Minute

// unlimitedPath is the path length of a CA whose chain sets none.
const unlimitedPath = -1

// Authority is one CA certificate with its key and everything that was derived from both together. It does not change once it is
// in use, so whoever holds one holds a consistent set.
type Authority struct {
	Cert *x509.Certificate
	// Key is the key of Cert, or nil if it is kept outside.
	Key crypto.Signer
	// Issuers goes behind the leaf: the CA certificate and those above it, without a root.
	Issuers []*x509.Certificate
	// Anchors are what verifiers must trust.
	Anchors []*x509.Certificate
	// Remedy tells a person what to do when the time of this authority is over.
	Remedy string
	// NotAfter is when the first certificate from Cert to the anchor expires.
	NotAfter time.Time

	// path is the CA certificate and all above it, the trust anchor included.
	path []*x509.Certificate
	// notBefore is when all of them are valid.
	notBefore time.Time
	// pathLen is how many CA certificates may come below Cert, or unlimitedPath.
	pathLen int
}

// New checks that the CA certificate, the chain above it, the trust anchors and the key fit together. The key is nil
// if it is kept outside. If anchors is empty, the self-signed certificate at the end of the chain is the anchor. Whether the time is right is not checked
// here, as that changes while an authority is kept; see Check. Every error is a *signer.CheckError.
func New(chain, anchors []*x509.Certificate, key crypto.Signer) (*Authority, error) {
	cert := chain[0]
	if err := checkIssuer(cert); err != nil {
		return nil, err
	}
	if err := checkPublicKey(cert.PublicKey); err != nil {
		return nil, err
	}
	if key != nil && !samePublicKey(cert.PublicKey, key.Public()) {
		return nil, Unusable(ReasonKeyMismatch, "the key is not the one that the CA certificate %s was issued for", cert.Subject)
	}
	for i, c := range chain[1:] {
		if !bytes.Equal(chain[i].RawIssuer, c.RawSubject) || chain[i].CheckSignatureFrom(c) != nil {
			return nil, Unusable(ReasonCertificateInvalid,
				"certificate %d (%s) is not signed by certificate %d (%s): put each certificate's issuer right behind it", i+1, chain[i].Subject, i+2, c.Subject)
		}
	}
	if len(anchors) == 0 {
		last := chain[len(chain)-1]
		if !selfSigned(last) {
			return nil, Unusable(ReasonNoTrustAnchor,
				"no trust anchor: the last certificate (%s) is issued by %s: append the chain up to its self-signed root, or put the trust anchors into the key ca.crt",
				last.Subject, last.Issuer)
		}
		anchors = []*x509.Certificate{last}
	}
	path, err := bestPath(chain, anchors)
	if err != nil {
		return nil, err
	}
	a := &Authority{
		Cert: cert, Key: key, path: path, Anchors: anchors,
		Issuers: slices.DeleteFunc(slices.Clone(chain), selfSigned),
		pathLen: unlimitedPath,
	}
	a.notBefore, a.NotAfter = window(path)
	for i, c := range path {
		if err := checkConstraintKinds(c); err != nil {
			return nil, err
		}
		if c.MaxPathLen < 0 || c.MaxPathLen == 0 && !c.MaxPathLenZero {
			continue
		}
		below := c.MaxPathLen - i
		if below < 0 {
			return nil, Unusable(ReasonCertificateInvalid, "the path length %d of %s forbids the %d CA certificates below it", c.MaxPathLen, c.Subject, i)
		}
		if a.pathLen == unlimitedPath || below < a.pathLen {
			a.pathLen = below
		}
	}
	return a, nil
}

// Root is the trust anchor that the chain leads to.
func (a *Authority) Root() *x509.Certificate { return a.path[len(a.path)-1] }

// LeadsTo reports whether whoever trusts these anchors, and no others, could verify what the authority signs, at some time.
func (a *Authority) LeadsTo(anchors []*x509.Certificate) bool {
	_, err := bestPath(append([]*x509.Certificate{a.Cert}, a.Issuers...), anchors)
	return err == nil
}

// Chain returns what is handed out with a leaf: the leaf and the CA certificates above it, without a root. It ends before the first one
// that expires before the leaf, which no verifier needs then, and some would stumble over.
func (a *Authority) Chain(leaf *x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for _, c := range a.Issuers {
		if c.NotAfter.Before(leaf.NotAfter) {
			break
		}
		chain = append(chain, c)
	}
	return chain
}

// Check says why the authority cannot sign at the given time, or nil if it can.
func (a *Authority) Check(now time.Time) error {
	switch {
	case now.Before(a.notBefore):
		return Unusable(ReasonCANotYetValid, "the CA certificate %s or one above it is not valid before %s", a.Cert.Subject, rfc3339(a.notBefore))
	case now.After(a.NotAfter):
		return Unusable(ReasonCAExpired, "the CA certificate %s or one above it expired at %s: %s", a.Cert.Subject, rfc3339(a.NotAfter), a.Remedy)
	case a.NotAfter.Sub(now) < ExpiryMargin:
		return Unusable(ReasonCAExpiring, "the CA certificate %s or one above it expires at %s, too soon to sign with it: %s",
			a.Cert.Subject, rfc3339(a.NotAfter), a.Remedy)
	}
	return nil
}

// checkIssuer checks that a certificate may sign certificates (RFC 5280, sections 4.1.2.6, 4.2.1.3 and 4.2.1.9).
func checkIssuer(cert *x509.Certificate) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return Unusable(ReasonNotACA, "the certificate %s is not a CA certificate: its basic constraints must say CA:TRUE", cert.Subject)
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return Unusable(ReasonKeyUsageForbidsSigning, "the key usage of the CA certificate %s lacks certificate signing", cert.Subject)
	case len(cert.Subject.ToRDNSequence()) == 0 && len(cert.Subject.Names) == 0:
		return Unusable(ReasonCertificateInvalid, "the CA certificate has an empty subject, so that nothing could name it as its issuer")
	case len(cert.UnhandledCriticalExtensions) > 0:
		return Unusable(ReasonCertificateInvalid, "the CA certificate %s has the critical extension %s, of a kind or content that cannot be honoured",
			cert.Subject, cert.UnhandledCriticalExtensions[0])
	}
	return nil
}

// checkPublicKey checks that a CA's key is fit to sign with.
func checkPublicKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return Unusable(ReasonUnsupportedKey, "the CA key is RSA of %d bits: at least 2048 are needed", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, k.Curve) {
			return Unusable(ReasonUnsupportedKey, "the CA key is ECDSA on %s: it must be on P-256, P-384 or P-521", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return Unusable(ReasonUnsupportedKey, "the CA key is a %T: it must be RSA, ECDSA or Ed25519", k)
	}
	return nil
}

// bestPath returns the path from chain[0] to an anchor that stays valid longest.
func bestPath(chain, anchors []*x509.Certificate) ([]*x509.Certificate, error) {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range anchors {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	// Paths begin to be valid when the last of their certificates does, so these are the times that matter.
	var best []*x509.Certificate
	var problem error
	var unknown x509.UnknownAuthorityError
	for _, c := range slices.Concat(chain, anchors) {
		paths, err := chain[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: c.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err != nil {
			if problem == nil || errors.As(err, &unknown) {
				problem = err
			}
			continue
		}
		for _, p := range paths {
			_, end := window(p)
			if _, bestEnd := window(best); best == nil || end.After(bestEnd) {
				best = p
			}
		}
	}
	if best == nil {
		if errors.As(problem, &unknown) {
			return nil, Unusable(ReasonNoTrustAnchor, "no trust anchor: the chain of the CA certificate %s does not lead to a certificate in ca.crt", chain[0].Subject)
		}
		return nil, Unusable(ReasonCertificateInvalid, "the chain of the CA certificate %s never verifies: %w", chain[0].Subject, problem)
	}
	return best, nil
}

// window returns the time in which all certificates of a path are valid.
func window(path []*x509.Certificate) (notBefore, notAfter time.Time) {
	for i, c := range path {
		if i == 0 || c.NotBefore.After(notBefore) {
			notBefore = c.NotBefore
		}
		if i == 0 || c.NotAfter.Before(notAfter) {
			notAfter = c.NotAfter
		}
	}
	return notBefore, notAfter
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Unusable returns a *signer.CheckError.
func Unusable(reason, format string, args ...any) error {
	return &signer.CheckError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
