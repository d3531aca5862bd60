// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/cloudflare/cfssl/info"
	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/remote"
)

// authority is what a server tells of itself: its CA certificate, and the profile that it signs by.
type authority struct {
	issuer   *x509.Certificate
	issuers  []*x509.Certificate // issuer and those above it, without the root
	root     *x509.Certificate   // nil if it is not known
	notAfter time.Time           // of the first of them that expires

	usages   []string // of the profile, as the server writes them
	bits     x509.KeyUsage
	extended []x509.ExtKeyUsage
	// expiry is the lifetime that the profile gives to each certificate; 0 if the server takes one from the request.
	expiry time.Duration
}

func newAuthority(told *info.Resp, above []*x509.Certificate, config v1alpha1.CFSSL) (*authority, error) {
	certs, err := remote.Chain([]byte(told.Certificate))
	if err != nil {
		return nil, fmt.Errorf("the server's CA certificate: %w", err)
	}
	a := &authority{issuer: certs[0], usages: told.Usage}
	if !a.issuer.BasicConstraintsValid || !a.issuer.IsCA {
		return nil, checkError(reasonNoCA, "the server's certificate %q is no CA certificate", a.issuer.Subject)
	}
	a.climb(above)
	usages := make([]certificatesv1.KeyUsage, len(told.Usage))
	for i, u := range told.Usage {
		usages[i] = certificatesv1.KeyUsage(u) // Kubernetes took its names from cfssl
	}
	if a.bits, a.extended, err = csr.X509Usages(usages); err != nil {
		return nil, fmt.Errorf("the server's profile %s: %w", remote.Quote(config.Profile), err)
	}
	if config.Label == "" {
		if a.expiry, err = time.ParseDuration(told.ExpiryString); err != nil || a.expiry <= 0 {
			return nil, fmt.Errorf("the server's profile %s has the expiry %s, which is no lifetime", remote.Quote(config.Profile), remote.Quote(told.ExpiryString))
		}
	}
	return a, nil
}

// climb goes up from the issuer, as far as the certificates go.
func (a *authority) climb(above []*x509.Certificate) {
	a.notAfter = a.issuer.NotAfter
	for c := a.issuer; ; {
		a.notAfter = earliest(a.notAfter, c.NotAfter)
		if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			a.root = c
			return
		}
		a.issuers = append(a.issuers, c)
		up := slices.IndexFunc(above, func(p *x509.Certificate) bool {
			return bytes.Equal(c.RawIssuer, p.RawSubject) && c.CheckSignatureFrom(p) == nil && !slices.Contains(a.issuers, p)
		})
		if up < 0 {
			return
		}
		c = above[up]
	}
}

// check says whether the CA can sign at all.
func (a *authority) check(now time.Time) error {
	if now.After(a.notAfter) {
		return checkError(reasonCAExpired, "the server's CA %q or one above it expired at %s: give the server a new one", a.issuer.Subject, a.notAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// permits says whether what the profile makes of a request is what the request asks for.
func (a *authority) permits(req csr.Request, now time.Time) error {
	if err := a.check(now); err != nil {
		return err
	}
	bits, extended, err := csr.X509Usages(req.Usages)
	if err != nil {
		return &signer.PermanentError{Err: err}
	}
	if bits != a.bits || !sameSet(extended, a.extended) {
		return permanent("usages are %q, and the server's profile gives %q to every certificate: ask for these, or have the backend use a profile with the usages that are wanted", req.Usages, a.usages)
	}
	if a.expiry > req.Duration {
		return permanent("duration: %s are granted, and the server's profile gives %s to every certificate: ask for at least that, or make the profile's expiry shorter, or use a multirootca server with a label",
			req.Duration, a.expiry)
	}
	if a.expiry > 0 && now.Add(a.expiry).After(a.notAfter) {
		return checkError(reasonCAExpiring, "the server's CA %q or one above it expires at %s, earlier than a certificate of the profile would, which lives %s: renew it",
			a.issuer.Subject, a.notAfter.UTC().Format(time.RFC3339), a.expiry)
	}
	return nil
}

func sameSet[T comparable](a, b []T) bool {
	has := func(list []T) func(T) bool { return func(v T) bool { return !slices.Contains(list, v) } }
	return !slices.ContainsFunc(a, has(b)) && !slices.ContainsFunc(b, has(a))
}
