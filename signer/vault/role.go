// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
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

// usages are Kubernetes' by the names that Vault has for them: those of Go's constants, in any case.
var usages = func() map[string]certificatesv1.KeyUsage {
	named := map[string]certificatesv1.KeyUsage{"microsoftservergatedcrypto": certificatesv1.UsageMicrosoftSGC, "netscapeservergatedcrypto": certificatesv1.UsageNetscapeSGC}
	for _, u := range csr.AllUsages() {
		named[strings.ReplaceAll(string(u), " ", "")] = u
	}
	return named
}()

// gives returns the subject and the usages that the role's certificates have, or nil if the role is not known.
func (r role) gives() *x509.Certificate {
	if !r.readable {
		return nil
	}
	c := &x509.Certificate{Subject: pkix.Name{
		Organization: r.Organization, OrganizationalUnit: r.OU, Country: r.Country, Province: r.Province,
		Locality: r.Locality, StreetAddress: r.StreetAddress, PostalCode: r.PostalCode,
	}}
	names := slices.Concat(r.KeyUsage, r.ExtKeyUsage)
	for flag, set := range map[string]bool{"serverauth": r.ServerFlag, "clientauth": r.ClientFlag, "codesigning": r.CodeSigningFlag, "emailprotection": r.EmailProtectionFlag} {
		if set {
			names = append(names, flag)
		}
	}
	var known []certificatesv1.KeyUsage
	for _, name := range names {
		if u, ok := usages[strings.ToLower(strings.TrimSpace(name))]; ok {
			known = append(known, u)
		}
	}
	c.KeyUsage, c.ExtKeyUsage, _ = csr.X509Usages(known) // these it knows
	return c
}
