// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/certwright/certwright/csr"
)

const (
	// overdue is the part of its lifetime at whose end a certificate should have been renewed: the agent starts at two thirds.
	overdue = 0.8
	// caSoon is how long before the end of a CA certificate people should act.
	caSoon = 30 * 24 * time.Hour
)

// judge adds certificates to the report, and what there is to say about them at the given time. Anchors may be nil.
func (r *Report) judge(certs []*x509.Certificate, anchors *Anchors, now time.Time) {
	for _, cert := range certs {
		r.Certificates = append(r.Certificates, decoded(cert))
		r.judgeOne(cert, now)
	}
	if len(certs) == 0 || certs[0].IsCA && selfSigned(certs[0]) {
		return // a trust bundle, not a chain
	}
	for i, cert := range certs[1:] {
		if !bytes.Equal(certs[i].RawIssuer, cert.RawSubject) {
			r.find(Warning, fmt.Sprintf("certificate %d is not the issuer of certificate %d: many programs want the chain in order, leaf first", i+2, i+1))
		}
	}
	r.Trust = verify(certs, anchors, now)
	if !r.Trust.Verified && anchors != nil {
		r.find(Error, "the chain does not lead to the trust bundle: "+r.Trust.Problem)
	}
}

func (r *Report) judgeOne(cert *x509.Certificate, now time.Time) {
	name := nameOf(cert)
	left := cert.NotAfter.Sub(now)
	switch {
	case now.Before(cert.NotBefore):
		r.find(Error, fmt.Sprintf("%s is not valid yet: it will be in %s", name, duration.HumanDuration(cert.NotBefore.Sub(now))))
	case left <= 0:
		r.find(Error, fmt.Sprintf("%s expired %s ago", name, duration.HumanDuration(-left)))
	case cert.IsCA && left < caSoon && left < cert.NotAfter.Sub(cert.NotBefore)/2:
		r.find(Warning, fmt.Sprintf("%s is a CA that expires in %s", name, duration.HumanDuration(left)))
	case !cert.IsCA && now.Sub(cert.NotBefore) > time.Duration(overdue*float64(cert.NotAfter.Sub(cert.NotBefore))):
		r.find(Warning, fmt.Sprintf("%s expires in %s: it should have been renewed by now", name, duration.HumanDuration(left)))
	}
	switch cert.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		if !selfSigned(cert) {
			r.find(Error, fmt.Sprintf("%s is signed with %s, which can be forged", name, cert.SignatureAlgorithm))
		}
	}
	names := len(cert.DNSNames) + len(cert.URIs) + len(cert.IPAddresses) + len(cert.EmailAddresses)
	if !cert.IsCA && names == 0 && slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		r.find(Warning, fmt.Sprintf("%s has no subject alternative name: clients do not look at the common name of a server", name))
	}
}

// verify builds a path from the first certificate over the others to an anchor, for any usage.
func verify(certs []*x509.Certificate, anchors *Anchors, now time.Time) *Trust {
	if anchors == nil {
		return &Trust{Problem: "no trust bundle was found to verify it against"}
	}
	trust := &Trust{Bundle: anchors.Source}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, cert := range anchors.Certificates {
		roots.AddCert(cert)
	}
	for _, cert := range certs[1:] {
		intermediates.AddCert(cert)
	}
	at := now
	if leaf := certs[0]; at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	} else if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	paths, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		trust.Problem = strings.TrimPrefix(err.Error(), "x509: ")
		return trust
	}
	trust.Verified = true
	for _, cert := range paths[0] {
		trust.Path = append(trust.Path, nameOf(cert))
	}
	return trust
}

func decoded(cert *x509.Certificate) Certificate {
	sum := sha256.Sum256(cert.Raw)
	c := Certificate{
		Subject:        cert.Subject.String(),
		Issuer:         cert.Issuer.String(),
		SerialNumber:   hex.EncodeToString(cert.SerialNumber.Bytes()),
		DNSNames:       cert.DNSNames,
		EmailAddresses: cert.EmailAddresses,
		Usages:         usagesOf(cert),
		IsCA:           cert.BasicConstraintsValid && cert.IsCA,
		SelfSigned:     selfSigned(cert),
		Key:            describeKey(cert.PublicKey),
		NotBefore:      cert.NotBefore.UTC(),
		NotAfter:       cert.NotAfter.UTC(),
		Fingerprint:    hex.EncodeToString(sum[:]),
	}
	for _, uri := range cert.URIs {
		c.URIs = append(c.URIs, uri.String())
	}
	for _, ip := range cert.IPAddresses {
		c.IPAddresses = append(c.IPAddresses, ip.String())
	}
	return c
}

// usagesOf names the usages of a certificate as Kubernetes does; those that it does not know by their object identifiers.
func usagesOf(cert *x509.Certificate) []string {
	var names []string
	for _, usage := range csr.UsageNames(cert.KeyUsage, cert.ExtKeyUsage) {
		names = append(names, string(usage))
	}
	for _, oid := range cert.UnknownExtKeyUsage {
		names = append(names, oid.String())
	}
	return names
}

// nameOf is how a certificate is called in sentences: by its first name, else by its serial number.
func nameOf(cert *x509.Certificate) string {
	switch {
	case cert.IsCA && cert.Subject.String() != "":
		return cert.Subject.String()
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	case len(cert.URIs) > 0:
		return cert.URIs[0].String()
	case cert.Subject.String() != "":
		return cert.Subject.String()
	case len(cert.EmailAddresses) > 0:
		return cert.EmailAddresses[0]
	case len(cert.IPAddresses) > 0:
		return cert.IPAddresses[0].String()
	}
	return "serial number " + hex.EncodeToString(cert.SerialNumber.Bytes())
}

func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}
