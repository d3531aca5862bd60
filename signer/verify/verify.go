// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package verify checks what a backend returned before anybody gets it. Whatever a backend does, a certificate for another key, with other
// names, more usages or a longer life than was granted never leaves the signer, and neither does a chain that those who trust the
// published anchors cannot verify.
package verify

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
)

// skew is how far the clocks of a backend and of this process may lie apart.
const skew = 5 * time.Minute

// maxChain and maxChainBytes bound a chain: the number of its certificates, and the size of them all.
const (
	maxChain      = 10
	maxChainBytes = 64 << 10
)

// Extensions that a leaf may hold (RFC 5280, section 4.2; RFC 6962 for the list of signed certificate timestamps). Names and
// usages in them are compared with the request; the others point to where the CA keeps its own affairs.
var knownExtensions = []asn1.ObjectIdentifier{
	{2, 5, 29, 14},                     // subject key identifier
	{2, 5, 29, 35},                     // authority key identifier
	{2, 5, 29, 15},                     // key usage
	{2, 5, 29, 37},                     // extended key usage
	{2, 5, 29, 17},                     // subject alternative name
	{2, 5, 29, 19},                     // basic constraints
	{2, 5, 29, 31},                     // CRL distribution points
	{2, 5, 29, 32},                     // certificate policies
	{1, 3, 6, 1, 5, 5, 7, 1, 1},        // authority information access
	{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, // signed certificate timestamps
}

// Chain checks the chain that a backend returned against the request with its granted lifetime. If anchors are given, it must lead to
// one of them, or the error is ErrUnanchored. Only what Chain returns was verified: its certificates are parsed from the bytes that are
// written. The error is a *signer.RequestError if the request may have brought it about.
func Chain(chain, anchors []*x509.Certificate, req csr.Request, now time.Time) ([]*x509.Certificate, error) {
	chain, err := reparse(chain)
	if err != nil {
		return nil, err
	}
	if err := verifyLeaf(chain[0], req, now); err != nil {
		return nil, &signer.RequestError{Err: err}
	}
	if err := verifyLinks(chain, now); err != nil {
		return nil, err
	}
	return chain, verifyAnchored(chain, anchors, now)
}

func verifyLeaf(leaf *x509.Certificate, req csr.Request, now time.Time) error {
	key, ok := req.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(leaf.PublicKey) {
		return errors.New("the leaf is for another key")
	}
	if err := verifyNames(leaf, req); err != nil {
		return err
	}
	if err := verifyPowers(leaf, req); err != nil {
		return err
	}
	return verifyLifetime(leaf, req, now)
}

// reparse parses the raw bytes of the certificates again: a backend could return fields that are not what the bytes say.
func reparse(chain []*x509.Certificate) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("it holds %d certificates, allowed are 1 to %d", len(chain), maxChain)
	}
	parsed := make([]*x509.Certificate, 0, len(chain))
	size := 0
	for i, c := range chain {
		if c == nil {
			return nil, fmt.Errorf("certificate %d is missing", i)
		}
		if size += len(c.Raw); size > maxChainBytes {
			return nil, fmt.Errorf("it has more than the %d bytes that are allowed", maxChainBytes)
		}
		again, err := x509.ParseCertificate(c.Raw)
		if err != nil {
			return nil, fmt.Errorf("parsing certificate %d: %w", i, err)
		}
		parsed = append(parsed, again)
	}
	return parsed, nil
}

// verifyPowers checks what the leaf may be used for: no more than was requested.
func verifyPowers(leaf *x509.Certificate, req csr.Request) error {
	usage, extended, err := csr.X509Usages(req.Usages)
	if err != nil {
		return err
	}
	if leaf.IsCA != req.IsCA {
		return fmt.Errorf("the leaf's CA flag is %t, requested was %t", leaf.IsCA, req.IsCA)
	}
	if extra := leaf.KeyUsage &^ usage; extra != 0 {
		return fmt.Errorf("the leaf has key usages that were not requested: %#b", extra)
	}
	if usage != 0 && leaf.KeyUsage == 0 {
		return errors.New("the leaf has no key usage and so could be used for anything")
	}
	for _, e := range leaf.ExtKeyUsage {
		if !slices.Contains(extended, e) {
			return fmt.Errorf("the leaf has extended key usage %d, which was not requested", e)
		}
	}
	if len(leaf.UnknownExtKeyUsage) > 0 {
		return fmt.Errorf("the leaf has unknown extended key usages %v", leaf.UnknownExtKeyUsage)
	}
	if len(extended) > 0 && len(leaf.ExtKeyUsage) == 0 {
		return errors.New("the leaf has no extended key usage and so could be used for anything")
	}
	for _, e := range leaf.Extensions {
		if !slices.ContainsFunc(knownExtensions, e.Id.Equal) {
			return fmt.Errorf("the leaf has unknown extension %s", e.Id)
		}
	}
	return nil
}

func verifyLifetime(leaf *x509.Certificate, req csr.Request, now time.Time) error {
	switch {
	case leaf.NotBefore.After(now.Add(skew)):
		return fmt.Errorf("the leaf is valid only from %s on", leaf.NotBefore.UTC().Format(time.RFC3339))
	case !leaf.NotAfter.After(now):
		return fmt.Errorf("the leaf expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case leaf.NotAfter.After(now.Add(req.Duration + skew)):
		return fmt.Errorf("the leaf is valid until %s, longer than the %s that were granted", leaf.NotAfter.UTC().Format(time.RFC3339), req.Duration)
	case req.ForPod:
		return verifyPodLifetime(leaf, req, now)
	}
	return nil
}

// verifyPodLifetime checks what the API server will, as far as that can be known: its clock is another one
// (k8s.io/kubernetes/pkg/apis/certificates/validation, ValidatePodCertificateRequestStatusUpdate).
func verifyPodLifetime(leaf *x509.Certificate, req csr.Request, now time.Time) error {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case leaf.NotBefore.Before(now.Add(-skew)):
		return fmt.Errorf("the leaf is valid from %s on, and a pod's must begin when it is signed", leaf.NotBefore.UTC().Format(time.RFC3339))
	case life > req.Duration:
		return fmt.Errorf("the leaf lives for %s from its notBefore on, longer than the %s that were granted", life, req.Duration)
	case life < csr.MinPodLifetime:
		return fmt.Errorf("the leaf lives for %s, and a pod's must live for %s at least", life, csr.MinPodLifetime)
	}
	return nil
}

// verifyLinks checks that each certificate is signed by the next one, which is a valid CA.
func verifyLinks(chain []*x509.Certificate, now time.Time) error {
	for i, issuer := range chain[1:] {
		child := chain[i]
		if now.Before(issuer.NotBefore.Add(-skew)) || now.After(issuer.NotAfter) {
			return fmt.Errorf("CA certificate %q in the chain is not valid now", issuer.Subject)
		}
		if !issuer.BasicConstraintsValid || !issuer.IsCA {
			return fmt.Errorf("certificate %q in the chain is no CA", issuer.Subject)
		}
		if !bytes.Equal(child.RawIssuer, issuer.RawSubject) {
			return fmt.Errorf("the chain is out of order: %q is not the issuer of %q", issuer.Subject, child.Subject)
		}
		if err := child.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("checking the signature of %q by %q: %w", child.Subject, issuer.Subject, err)
		}
	}
	return nil
}

// ErrUnanchored is in the error of a chain that leads to none of the anchors, be it because the CA was replaced.
var ErrUnanchored = errors.New("following the chain to the trust anchors")

// verifyAnchored checks that the chain leads to one of the anchors. No anchors are known to be no bound.
func verifyAnchored(chain, anchors []*x509.Certificate, now time.Time) error {
	if len(anchors) == 0 {
		return nil
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	if chain[0].NotBefore.After(now) {
		options.CurrentTime = chain[0].NotBefore
	}
	for _, c := range anchors {
		options.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: %w", ErrUnanchored, err)
	// Names that a CA above is not for were asked for by the requester.
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason != x509.Expired {
		return &signer.RequestError{Err: err}
	}
	return err
}
