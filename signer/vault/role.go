// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"strings"

	"github.com/certwright/certwright/signer/vault/session"
)

// role is what is of interest of a role's settings. The zero value is a role that the token may not read.
type role struct {
	IssuerRef           string   `json:"issuer_ref"`
	Organization        []string `json:"organization"`
	OU                  []string `json:"ou"`
	Country             []string `json:"country"`
	Province            []string `json:"province"`
	Locality            []string `json:"locality"`
	StreetAddress       []string `json:"street_address"`
	PostalCode          []string `json:"postal_code"`
	KeyUsage            []string `json:"key_usage"`
	ExtKeyUsage         []string `json:"ext_key_usage"`
	ServerFlag          bool     `json:"server_flag"`
	ClientFlag          bool     `json:"client_flag"`
	CodeSigningFlag     bool     `json:"code_signing_flag"`
	EmailProtectionFlag bool     `json:"email_protection_flag"`

	readable bool
}

// readRole reads the role's settings, if the token may.
func (b *Backend) readRole(ctx context.Context) (role, error) {
	var r role
	err := b.vault.Call(ctx, http.MethodGet, b.path("roles"), nil, &r)
	switch {
	case session.Status(err) == http.StatusForbidden:
		return role{}, nil
	case session.Status(err) == http.StatusNotFound && !strings.HasPrefix(session.Said(err).Words, "no handler for route"):
		return role{}, session.Trouble(reasonRoleNotFound, "%w: create the role %q there, or set vault.role and vault.path", err, b.role)
	case err != nil:
		return role{}, b.explain(err)
	}
	r.readable = true
	return r, nil
}

// The usages by the names that Vault has for them: those of Go's constants, in any case.
var (
	keyUsages = map[string]x509.KeyUsage{
		"digitalsignature": x509.KeyUsageDigitalSignature, "contentcommitment": x509.KeyUsageContentCommitment,
		"keyencipherment": x509.KeyUsageKeyEncipherment, "dataencipherment": x509.KeyUsageDataEncipherment,
		"keyagreement": x509.KeyUsageKeyAgreement, "certsign": x509.KeyUsageCertSign, "crlsign": x509.KeyUsageCRLSign,
		"encipheronly": x509.KeyUsageEncipherOnly, "decipheronly": x509.KeyUsageDecipherOnly,
	}
	extKeyUsages = map[string]x509.ExtKeyUsage{
		"any": x509.ExtKeyUsageAny, "serverauth": x509.ExtKeyUsageServerAuth, "clientauth": x509.ExtKeyUsageClientAuth,
		"codesigning": x509.ExtKeyUsageCodeSigning, "emailprotection": x509.ExtKeyUsageEmailProtection,
		"ipsecendsystem": x509.ExtKeyUsageIPSECEndSystem, "ipsectunnel": x509.ExtKeyUsageIPSECTunnel, "ipsecuser": x509.ExtKeyUsageIPSECUser,
		"timestamping": x509.ExtKeyUsageTimeStamping, "ocspsigning": x509.ExtKeyUsageOCSPSigning,
		"microsoftservergatedcrypto": x509.ExtKeyUsageMicrosoftServerGatedCrypto, "netscapeservergatedcrypto": x509.ExtKeyUsageNetscapeServerGatedCrypto,
	}
)

// gives returns the subject and the usages that the role's certificates have, or nil if the role is not known.
func (r role) gives() *x509.Certificate {
	if !r.readable {
		return nil
	}
	c := &x509.Certificate{Subject: pkix.Name{
		Organization: r.Organization, OrganizationalUnit: r.OU, Country: r.Country, Province: r.Province,
		Locality: r.Locality, StreetAddress: r.StreetAddress, PostalCode: r.PostalCode,
	}}
	for _, name := range r.KeyUsage {
		c.KeyUsage |= keyUsages[strings.ToLower(strings.TrimSpace(name))]
	}
	for flag, set := range map[string]bool{"serverauth": r.ServerFlag, "clientauth": r.ClientFlag, "codesigning": r.CodeSigningFlag, "emailprotection": r.EmailProtectionFlag} {
		if set {
			r.ExtKeyUsage = append(r.ExtKeyUsage, flag)
		}
	}
	for _, name := range r.ExtKeyUsage {
		if e, known := extKeyUsages[strings.ToLower(strings.TrimSpace(name))]; known {
			c.ExtKeyUsage = append(c.ExtKeyUsage, e)
		}
	}
	return c
}
