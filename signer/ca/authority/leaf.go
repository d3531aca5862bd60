// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
)

// Backdate is how far in the past a certificate's life begins at the most, for verifiers whose clocks are slow. It comes on
// top of the request's Duration, but for pods whose kubelets ask: the API server bounds all of a life, from notBefore to notAfter.
const Backdate = 5 * time.Minute

// backdate is a tenth of a short life: one of a minute that begins five minutes ago would look nearly over to whoever
// renews at a share of it.
func backdate(life time.Duration) time.Duration { return min(Backdate, life/10) }

// validity returns when the certificate's life begins and ends. The error is a *signer.RequestError if a pod's would be too short for the API
// server: others can still be signed.
func (a *Authority) validity(req csr.Request, now time.Time) (notBefore, notAfter time.Time, err error) {
	start := now.Add(-backdate(req.Duration))
	if req.ForPod {
		start = now.Add(-csr.MaxPodBackdate)
	}
	notBefore = latest(start, a.notBefore).UTC().Truncate(time.Second)
	end := now.Add(req.Duration)
	if req.ForPod {
		end = notBefore.Add(req.Duration)
	}
	notAfter = earliest(end, a.NotAfter).UTC().Truncate(time.Second)
	if req.ForPod && notAfter.Sub(notBefore) < csr.MinPodLifetime {
		return notBefore, notAfter, &signer.RequestError{Err: fmt.Errorf("the CA %s expires at %s, and certificates of pods must live for %s at least",
			a.Cert.Subject, a.NotAfter.UTC().Format(time.RFC3339), csr.MinPodLifetime)}
	}
	return notBefore, notAfter, nil
}

// leafExtensions are all extensions that a certificate of this package may have: key usage, extended key usage, basic
// constraints, subject and authority key identifiers, subject alternative names, CRL distribution points, authority information
// access (RFC 5280, sections 4.2.1 and 4.2.2.1).
var leafExtensions = []string{"2.5.29.15", "2.5.29.37", "2.5.29.19", "2.5.29.14", "2.5.29.35", "2.5.29.17", "2.5.29.31", "1.3.6.1.5.5.7.1.1"}

// Issue builds a certificate from the fields of the request, never from its bytes, signs it, and compares what came out
// with what was asked for. The key is that of the CA. The error is a *signer.PermanentError for what this CA will never sign.
func (a *Authority) Issue(req csr.Request, now time.Time, random io.Reader, key crypto.Signer, u URLs) (*x509.Certificate, error) {
	template, err := a.template(req, now)
	if err != nil {
		return nil, err
	}
	u.put(template)
	if k, ok := key.(interface {
		SignatureAlgorithm() x509.SignatureAlgorithm
	}); ok {
		template.SignatureAlgorithm = k.SignatureAlgorithm()
	}
	if template.SerialNumber, err = NewSerial(random); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(random, template, a.Cert, req.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("signing with the CA %s: %w", a.Cert.Subject, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, permanent("the certificate that the request's names make cannot be parsed: %w", err)
	}
	if err := compare(leaf, template, req); err != nil {
		return nil, err
	}
	return leaf, a.verify(leaf, now)
}

func (a *Authority) template(req csr.Request, now time.Time) (*x509.Certificate, error) {
	usage, extended, err := csr.X509Usages(req.Usages)
	if err != nil {
		return nil, &signer.PermanentError{Err: err}
	}
	subject := pkix.Name{
		Country: req.Subject.Country, Province: req.Subject.Province, Locality: req.Subject.Locality,
		StreetAddress: req.Subject.StreetAddress, PostalCode: req.Subject.PostalCode,
		Organization: req.Subject.Organization, OrganizationalUnit: req.Subject.OrganizationalUnit,
		CommonName: req.Subject.CommonName, SerialNumber: req.Subject.SerialNumber,
	}
	rawSubject, err := asn1.Marshal(subject.ToRDNSequence())
	if err != nil {
		return nil, permanent("the request's subject %s cannot be encoded: %w", subject, err)
	}
	if err := a.permits(req, usage, extended, rawSubject); err != nil {
		return nil, err
	}
	notBefore, notAfter, err := a.validity(req, now)
	if err != nil {
		return nil, err
	}
	keyID, err := KeyIdentifier(req.PublicKey)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		RawSubject:            rawSubject,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              usage,
		ExtKeyUsage:           extended,
		BasicConstraintsValid: true,
		IsCA:                  req.IsCA,
		MaxPathLenZero:        req.IsCA,
		SubjectKeyId:          keyID,
		DNSNames:              req.DNSNames,
		EmailAddresses:        req.EmailAddresses,
		URIs:                  req.URIs,
	}
	for _, ip := range req.IPAddresses {
		t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
	}
	return t, nil
}

// permits refuses what could be signed but would be no proper certificate of this CA.
func (a *Authority) permits(req csr.Request, usage x509.KeyUsage, extended []x509.ExtKeyUsage, rawSubject []byte) error {
	names := len(req.DNSNames) + len(req.IPAddresses) + len(req.URIs) + len(req.EmailAddresses)
	emptySubject := len(rawSubject) == 2 // a SEQUENCE of nothing
	certSign := usage&x509.KeyUsageCertSign != 0
	switch {
	case req.Duration <= 0:
		return fmt.Errorf("the granted duration is %s: it must be longer than nothing", req.Duration)
	case emptySubject && req.IsCA:
		return permanent("the subject of a CA certificate must not be empty (RFC 5280, section 4.1.2.6)")
	case emptySubject && names == 0:
		return permanent("the request names nothing: it must have a subject or at least one subject alternative name")
	case req.IsCA != certSign:
		return permanent("isCA is %t, and the usages are %q: a CA certificate must have the usage \"cert sign\", and no other may (RFC 5280, section 4.2.1.9)", req.IsCA, req.Usages)
	case req.IsCA && a.pathLen == 0:
		return permanent("the path length of the CA certificate %s forbids CA certificates below it", a.Cert.Subject)
	}
	for _, c := range a.path {
		if bytes.Equal(rawSubject, c.RawSubject) {
			return permanent("the subject %s is that of the CA itself", c.Subject)
		}
		if samePublicKey(req.PublicKey, c.PublicKey) {
			return permanent("the key is that of the CA certificate %s", c.Subject)
		}
		if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
			continue
		}
		for _, e := range extended {
			if !slices.Contains(c.ExtKeyUsage, e) {
				return permanent("usages %q: the CA certificate %s is itself limited to other extended key usages", req.Usages, c.Subject)
			}
		}
	}
	return a.checkConstraints(req)
}

// compare makes sure that the certificate holds what was asked for and nothing else, whatever the library that made it does.
func compare(leaf, template *x509.Certificate, req csr.Request) error {
	var differs []string
	check := func(field string, same bool) {
		if !same {
			differs = append(differs, field)
		}
	}
	check("key", samePublicKey(leaf.PublicKey, req.PublicKey))
	check("subject", bytes.Equal(leaf.RawSubject, template.RawSubject))
	check("dnsNames", slices.Equal(leaf.DNSNames, template.DNSNames))
	check("emailAddresses", slices.Equal(leaf.EmailAddresses, template.EmailAddresses))
	check("uris", slices.EqualFunc(leaf.URIs, template.URIs, equalString))
	check("ipAddresses", slices.EqualFunc(leaf.IPAddresses, template.IPAddresses, equalString))
	check("usages", leaf.KeyUsage == template.KeyUsage && slices.Equal(leaf.ExtKeyUsage, template.ExtKeyUsage) && len(leaf.UnknownExtKeyUsage) == 0)
	check("crlDistributionPoints", slices.Equal(leaf.CRLDistributionPoints, template.CRLDistributionPoints))
	check("ocspServers", slices.Equal(leaf.OCSPServer, template.OCSPServer))
	check("issuingCertificateURLs", slices.Equal(leaf.IssuingCertificateURL, template.IssuingCertificateURL))
	check("isCA", leaf.BasicConstraintsValid && leaf.IsCA == req.IsCA)
	check("validity", leaf.NotBefore.Equal(template.NotBefore) && leaf.NotAfter.Equal(template.NotAfter))
	for _, e := range leaf.Extensions {
		check("extension "+e.Id.String(), slices.Contains(leafExtensions, e.Id.String()))
	}
	if len(differs) > 0 {
		return permanent("the certificate would differ from the request: %s", strings.Join(differs, ", "))
	}
	return nil
}

// verify checks the certificate as those who rely on it will, name constraints of all CAs above it included.
func (a *Authority) verify(leaf *x509.Certificate, now time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range a.Anchors {
		roots.AddCert(c)
	}
	for _, c := range a.Issuers {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName {
		return permanent("a name constraint of the CA forbids the request: %s%s", invalid.Detail, a.describeConstraints())
	}
	if err != nil {
		return fmt.Errorf("verifying the certificate against the trust anchors of the CA %s: %w", a.Cert.Subject, err)
	}
	return nil
}

// NewSerial returns 159 random bits, the most that fit into the 20 octets that RFC 5280 section 4.1.2.2 allows.
func NewSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 20)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("reading random bits for the serial number: %w", err)
	}
	b[0] &= 0x7f
	n := new(big.Int).SetBytes(b)
	if n.Sign() == 0 {
		return nil, errors.New("reading random bits for the serial number: all are zero")
	}
	return n, nil
}

// KeyIdentifier is the leftmost 160 bits of the SHA-256 hash of the public key (RFC 7093, section 2, method 1).
func KeyIdentifier(pub any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, permanent("the request's key cannot be encoded: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("decoding the request's key: %w", err)
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func equalString[T fmt.Stringer](a, b T) bool { return a.String() == b.String() }

func permanent(format string, args ...any) error {
	return &signer.PermanentError{Err: fmt.Errorf(format, args...)}
}
