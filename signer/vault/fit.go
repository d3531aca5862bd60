// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

// fit refuses a request for good where the role, and not the request, says what the subject and the usages are, and says
// otherwise. The leaf is known to be by the role's CA: nobody else may give cause for a verdict. What else does not fit is for
// signer.Verify to find.
func (b *Backend) fit(leaf *x509.Certificate, req csr.Request) error {
	key, ok := req.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(leaf.PublicKey) {
		return nil
	}
	for _, a := range attributes {
		if got, want := values(a.of(leaf.Subject)), values(a.of(req.Subject)); !slices.Equal(got, want) {
			return permanent("%s: requested is %q, and Vault's role %q gives %q: a role takes it from its own setting %s, never from a request", a.field, want, b.role, got, a.setting)
		}
	}
	if extra := moreUsages(leaf, req.Usages); len(extra) > 0 {
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

// usages are those of Kubernetes that a role of Vault's can give.
var usages = []certificatesv1.KeyUsage{
	certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageKeyAgreement, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly,
	certificatesv1.UsageAny, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection,
	certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
}

// moreUsages returns those that a leaf has and that were not requested.
func moreUsages(leaf *x509.Certificate, requested []certificatesv1.KeyUsage) (extra []certificatesv1.KeyUsage) {
	bits, extended, err := csr.X509Usages(requested)
	if err != nil {
		return nil
	}
	for _, u := range usages {
		bit, ext, err := csr.X509Usages([]certificatesv1.KeyUsage{u})
		if err != nil {
			continue
		}
		if leaf.KeyUsage&bit&^bits != 0 || slices.ContainsFunc(ext, func(e x509.ExtKeyUsage) bool {
			return slices.Contains(leaf.ExtKeyUsage, e) && !slices.Contains(extended, e)
		}) {
			extra = append(extra, u)
		}
	}
	return extra
}
