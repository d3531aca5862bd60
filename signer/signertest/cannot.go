// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package signertest

import (
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
)

// Cannot is what a backend cannot do, be it for its protocol or for the server's settings. What it cannot do it must refuse with
// a *signer.PermanentError whose words name the field of the request: the suite demands that in place of a certificate. The
// zero value can do everything.
type Cannot struct {
	// Fields that no certificate gets, named as in csr.Request and policies: dnsNames, ipAddresses, uris, emailAddresses,
	// commonName, organizations, organizationalUnits, countries, provinces, localities, streetAddresses, postalCodes,
	// serialNumbers.
	Fields []string
	// Wildcards and SingleLabels are true if such DNS names are refused (dnsNames).
	Wildcards, SingleLabels bool
	// CommonNameAlone is true if a request without any alternative name is refused (dnsNames).
	CommonNameAlone bool
	// OtherCommonNames is true if a common name must be one of the DNS names (commonName). Such a CA often leaves out the one that
	// was asked for, or puts in one that was not, which verify.Chain allows.
	OtherCommonNames bool
	// Keys that are refused (key), by the names that Key has for them.
	Keys []string
	// MoreNames is how many alternative names a certificate has at the most (dnsNames). 0 is any number.
	MoreNames int
	// OtherUsages, if not empty, are all that a certificate ever has, whatever was asked for. A request without one of them is refused
	// (usages).
	OtherUsages []certificatesv1.KeyUsage
	// OtherLifetimes, if not 0, is how long a certificate always lives. A request for less is refused (duration).
	OtherLifetimes time.Duration
	// LongSerials is true if serial numbers may have fewer than 64 bits.
	LongSerials bool
	// BasicConstraints is true if leaves have no such extension.
	BasicConstraints bool
	// Lints are the names of those of zlint that this CA's certificates do not pass, for no fault of the request.
	Lints []string
}

// fields returns the names of those fields of the request that the backend cannot do.
func (c Cannot) fields(req csr.Request) (fields []string) {
	add := func(field string, wrong bool) {
		if wrong {
			fields = append(fields, field)
		}
	}
	names := len(req.DNSNames) + len(req.IPAddresses) + len(req.URIs) + len(req.EmailAddresses)
	add("dnsNames", c.CommonNameAlone && names == 0)
	add("dnsNames", c.MoreNames > 0 && names > c.MoreNames)
	add("dnsNames", c.Wildcards && slices.ContainsFunc(req.DNSNames, func(n string) bool { return strings.HasPrefix(n, "*.") }))
	add("dnsNames", c.SingleLabels && slices.ContainsFunc(req.DNSNames, func(n string) bool { return !strings.Contains(n, ".") }))
	cn := req.Subject.CommonName
	add("commonName", c.OtherCommonNames && cn != "" && !slices.Contains(req.DNSNames, strings.ToLower(cn)))
	add("key", slices.Contains(c.Keys, keyName(req.Key)))
	add("usages", slices.ContainsFunc(c.OtherUsages, func(u certificatesv1.KeyUsage) bool { return !slices.Contains(req.Usages, u) }))
	add("duration", req.Duration < c.OtherLifetimes)
	for field, n := range map[string]int{"dnsNames": len(req.DNSNames), "ipAddresses": len(req.IPAddresses), "uris": len(req.URIs), "emailAddresses": len(req.EmailAddresses)} {
		add(field, n > 0 && slices.Contains(c.Fields, field))
	}
	for field, values := range subjectFields(req.Subject) {
		add(field, strings.Join(values, "") != "" && slices.Contains(c.Fields, field))
	}
	return fields
}

// subjectFields returns the values of a subject by the names that policies have for its attributes.
func subjectFields(n pkix.Name) map[string][]string {
	return map[string][]string{
		"commonName": {n.CommonName}, "organizations": n.Organization, "organizationalUnits": n.OrganizationalUnit,
		"countries": n.Country, "provinces": n.Province, "localities": n.Locality,
		"streetAddresses": n.StreetAddress, "postalCodes": n.PostalCode, "serialNumbers": {n.SerialNumber},
	}
}

// keyName is the name that Key has for such a key.
func keyName(k csr.Key) string {
	switch k.Algorithm {
	case csr.AlgorithmEd25519:
		return "Ed25519"
	case csr.AlgorithmRSA:
		return "RSA-2048"
	}
	return map[int]string{256: "ECDSA-P256", 384: "ECDSA-P384", 521: "ECDSA-P521"}[k.Size]
}

// refuses checks that the backend refuses the request for good, and names one of the fields.
func (s Subject) refuses(t *testing.T, req csr.Request, fields ...string) {
	t.Helper()
	chain, err := s.sign(t, req)
	if !isPermanent(err) {
		t.Fatalf("Sign returned %d certificates and the error %v, want a *signer.PermanentError", len(chain), err)
	}
	if !slices.ContainsFunc(fields, func(f string) bool { return strings.Contains(err.Error(), f) }) {
		t.Errorf("the error %q names none of the fields %q", err, fields)
	}
}

func isPermanent(err error) bool {
	var permanent *signer.PermanentError
	return errors.As(err, &permanent)
}
