// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
)

// maxURL is the length of a URL that is written into certificates, and maxURLs how many there may be of one kind.
const (
	maxURL  = 2048
	maxURLs = 8
)

// URLs are where those who verify find what the CA has to say about its certificates.
type URLs struct{ crls, ocsp, issuers []string }

// ParseURLs checks the URLs of a configuration. Revocation lists and certificates come by HTTP or LDAP, answers of OCSP
// responders by HTTP: with HTTPS, who checks one certificate would have to check another one first (RFC 5280, sections 4.2.1.13,
// 4.2.2.1 and 8; RFC 6960, appendix A).
func ParseURLs(c v1alpha1.CA) (URLs, error) {
	for _, f := range []struct {
		name    string
		values  []string
		schemes []string
	}{
		{"crlDistributionPoints", c.CRLDistributionPoints, []string{"http", "ldap"}},
		{"ocspServers", c.OCSPServers, []string{"http"}},
		{"issuingCertificateURLs", c.IssuingCertificateURLs, []string{"http", "ldap"}},
	} {
		if len(f.values) > maxURLs {
			return URLs{}, fmt.Errorf("%s: there are %d URLs: at most %d are allowed", f.name, len(f.values), maxURLs)
		}
		for i, value := range f.values {
			if err := checkURL(value, f.schemes); err != nil {
				return URLs{}, fmt.Errorf("%s[%d]: %q: %w", f.name, i, value, err)
			}
		}
	}
	return URLs{c.CRLDistributionPoints, c.OCSPServers, c.IssuingCertificateURLs}, nil
}

func checkURL(value string, schemes []string) error {
	if len(value) > maxURL || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("it must be at most %d ASCII characters, without white space", maxURL)
	}
	u, err := url.Parse(value)
	switch {
	case err != nil:
		return errors.New("it is no URL")
	case !slices.Contains(schemes, u.Scheme):
		return fmt.Errorf("its scheme must be %s", strings.Join(schemes, " or "))
	case u.User != nil || u.Fragment != "" || u.Hostname() == "":
		return errors.New("it must have a host, and neither credentials nor a fragment")
	case u.Scheme == "ldap" && (strings.Trim(u.Path, "/") == "" || u.RawQuery == ""):
		return errors.New("behind the host it must have a distinguished name and an attribute, as in ldap://ldap.example.com/cn=CA,o=Example?certificateRevocationList;binary")
	}
	return nil
}

func (u URLs) put(template *x509.Certificate) {
	template.CRLDistributionPoints, template.OCSPServer, template.IssuingCertificateURL = u.crls, u.ocsp, u.issuers
}
