// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"

	"github.com/certwright/certwright/csr"
)

// foresee refuses a request for good before Vault signs what could not be used, if the role's settings can be read. What is known
// of them may be old, so a verdict needs a second look.
func (b *Backend) foresee(ctx context.Context, req csr.Request) error {
	known, err := b.issuer.get(ctx)
	if err != nil || known.gives == nil || b.fit(known.gives, req) == nil {
		return err
	}
	b.issuer.doubt()
	again, err := b.issuer.get(ctx)
	if err != nil || again.gives == nil || !again.read.After(known.read) {
		return err // Vault's answer will tell
	}
	return b.fit(again.gives, req)
}

// fitLeaf is fit for what the CA that is known signed. Only the role's own answer to this request gives cause for a verdict: for
// its key. What else does not fit is for verify.Chain to find.
func (b *Backend) fitLeaf(leaf *x509.Certificate, req csr.Request) error {
	key, ok := req.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(leaf.PublicKey) {
		return nil
	}
	return b.fit(leaf, req)
}

// fit refuses a request for good where the role, and not the request, says what the subject and the usages are, and says
// otherwise.
func (b *Backend) fit(gives *x509.Certificate, req csr.Request) error {
	for _, a := range attributes {
		if got, want := values(a.of(gives.Subject)), values(a.of(req.Subject)); !slices.Equal(got, want) {
			return permanent("%s: requested is %q, and Vault's role %q gives %q: a role takes it from its own setting %s, never from a request", a.field, want, b.role, got, a.setting)
		}
	}
	bits, extended, err := csr.X509Usages(req.Usages)
	if err != nil {
		return permanent("usages: %w", err)
	}
	more := slices.DeleteFunc(slices.Clone(gives.ExtKeyUsage), func(e x509.ExtKeyUsage) bool { return slices.Contains(extended, e) })
	if extra := csr.UsageNames(gives.KeyUsage&^bits, more); len(extra) > 0 {
		return permanent("usages: requested are %q, and Vault's role %q gives %q, too: a role takes them from its own settings key_usage, ext_key_usage, server_flag and client_flag, never from a request",
			req.Usages, b.role, extra)
	}
	return nil
}

// attributes are those of a subject that a role sets, by the names that policies and Vault have for them.
var attributes = []struct {
	field, setting string
	of             func(pkix.Name) []string
}{
	{"organizations", "organization", func(n pkix.Name) []string { return n.Organization }},
	{"organizationalUnits", "ou", func(n pkix.Name) []string { return n.OrganizationalUnit }},
	{"countries", "country", func(n pkix.Name) []string { return n.Country }},
	{"provinces", "province", func(n pkix.Name) []string { return n.Province }},
	{"localities", "locality", func(n pkix.Name) []string { return n.Locality }},
	{"streetAddresses", "street_address", func(n pkix.Name) []string { return n.StreetAddress }},
	{"postalCodes", "postal_code", func(n pkix.Name) []string { return n.PostalCode }},
}

// values sorts those that are not empty.
func values(all []string) []string {
	all = slices.DeleteFunc(slices.Clone(all), func(v string) bool { return v == "" })
	slices.Sort(all)
	return all
}
