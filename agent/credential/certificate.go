// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// maxChainBytes caps what is decoded: a longer chain is refused unread.
	maxChainBytes = 512 << 10
	// maxChain caps how many certificates an issued chain may have.
	maxChain = 16
	// clockSkew is how far a certificate's start may lie in the future.
	clockSkew = 5 * time.Minute
)

// Pair is a private key and the chain that was issued for it, leaf first and
// without the root.
type Pair struct {
	Chain []*x509.Certificate
	Key   crypto.Signer

	// Request is the name of the request that it answers, when known.
	Request string
	// Advised is when the signer says to renew it; zero if it does not.
	Advised time.Time
	// Renew is what the RenewFile said when it was requested.
	Renew time.Time
	// Waited is the time from sending the request to reading its certificate.
	Waited time.Duration
}

// Leaf returns the certificate of the key.
func (p *Pair) Leaf() *x509.Certificate { return p.Chain[0] }

// ValidAt reports whether the leaf may be used at t, allowing clockSkew before its start.
func (p *Pair) ValidAt(t time.Time) bool {
	return t.Before(p.Leaf().NotAfter) && !t.Add(clockSkew).Before(p.Leaf().NotBefore)
}

// Check verifies what Answers does, and that the leaf is valid at t.
func (p *Pair) Check(n Names, t time.Time) error {
	if err := p.Answers(n); err != nil {
		return err
	}
	if leaf := p.Leaf(); !p.ValidAt(t) {
		return fmt.Errorf("the certificate is valid from %s to %s, now is %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339))
	}
	return nil
}

// Answers verifies that the leaf belongs to the key and carries every name.
func (p *Pair) Answers(n Names) error {
	leaf := p.Leaf()
	public, ok := p.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return errors.New("the certificate is for another key")
	}
	if missing := n.MissingFrom(leaf); len(missing) > 0 {
		return fmt.Errorf("the certificate lacks requested names: %s", strings.Join(missing, ", "))
	}
	return nil
}

// LeadsTo verifies that the chain ends in one of the bundle's trust anchors at t.
func (p *Pair) LeadsTo(bundle *Bundle, t time.Time) error {
	if start := p.Leaf().NotBefore; t.Before(start) && !t.Add(clockSkew).Before(start) {
		t = start
	}
	intermediates := x509.NewCertPool()
	for _, cert := range p.Chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := p.Leaf().Verify(x509.VerifyOptions{
		Roots:         bundle.pool(),
		Intermediates: intermediates,
		CurrentTime:   t,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("verifying the certificate against the trust bundle: %w", err)
	}
	return nil
}

// ParseChain reads the chain from status.certificate, leaf first, and drops
// self-signed certificates behind the leaf: roots belong into the trust bundle.
func ParseChain(data []byte) ([]*x509.Certificate, error) {
	certs, err := ParseCertificates(data, maxChainBytes)
	if err != nil {
		return nil, err
	}
	if len(certs) > maxChain {
		return nil, fmt.Errorf("the chain has %d certificates, at most %d are allowed", len(certs), maxChain)
	}
	chain := certs[:1]
	for _, cert := range certs[1:] {
		if !selfSigned(cert) {
			chain = append(chain, cert)
		}
	}
	return chain, nil
}

func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// ParseCertificates reads PEM blocks, which must all be certificates without
// headers. Text around the blocks is allowed (RFC 7468, section 5.2), as in the
// Kubernetes API. Input longer than most bytes is refused before decoding.
func ParseCertificates(data []byte, most int) ([]*x509.Certificate, error) {
	if len(data) > most {
		return nil, fmt.Errorf("more than %d bytes of PEM, which is the most that is read", most)
	}
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil, fmt.Errorf("found a PEM block %q, only CERTIFICATE without headers is allowed", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate found in PEM")
	}
	return certs, nil
}

// EncodeCertificates renders certificates as PEM.
func EncodeCertificates(certs []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, cert := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return out.Bytes()
}
