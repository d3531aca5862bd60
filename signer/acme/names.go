// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/acme/server"
)

// maxNames is how many names an order has at the most. It is what public servers take, and each name is a route or a record.
const maxNames = 100

// always are the usages that the certificates of ACME servers always have. They choose them, whatever the request asks for.
var always = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}

// identifiers returns what to order for a request, in a stable order, or a *signer.PermanentError that names what ACME cannot
// carry: the request is sent as it is, so it must hold nothing else.
func identifiers(req csr.Request) ([]server.Identifier, error) {
	var refused []string
	add := func(field string, value any, why string) {
		refused = append(refused, fmt.Sprintf("%s: %v: %s", field, value, why))
	}
	if len(req.URIs) > 0 {
		add("uris", req.URIs, "ACME certifies DNS names and IP addresses only")
	}
	if len(req.EmailAddresses) > 0 {
		add("emailAddresses", fmt.Sprintf("%q", req.EmailAddresses), "ACME certifies DNS names and IP addresses only")
	}
	if req.IsCA {
		add("isCA", true, "ACME servers sign no CA certificates")
	}
	var ids []server.Identifier
	for _, name := range req.DNSNames {
		ids = append(ids, server.Identifier{Type: "dns", Value: strings.ToLower(name)})
	}
	for _, address := range req.IPAddresses {
		ids = append(ids, server.Identifier{Type: "ip", Value: address.String()})
	}
	for field, values := range map[string][]string{
		"organizations": req.Subject.Organization, "organizationalUnits": req.Subject.OrganizationalUnit, "countries": req.Subject.Country,
		"provinces": req.Subject.Province, "localities": req.Subject.Locality, "streetAddresses": req.Subject.StreetAddress,
		"postalCodes": req.Subject.PostalCode, "serialNumbers": nonEmpty(req.Subject.SerialNumber),
	} {
		if len(values) > 0 {
			add(field, fmt.Sprintf("%q", values), "ACME certifies no subject but a common name")
		}
	}
	cn := strings.ToLower(req.Subject.CommonName)
	if cn != "" && !slices.ContainsFunc(ids, func(id server.Identifier) bool { return id.Value == cn }) {
		add("commonName", req.Subject.CommonName, "must be one of the DNS names or IP addresses of the request too")
	}
	if len(ids) == 0 {
		add("dnsNames", "[]", "ACME needs at least one DNS name or IP address")
	}
	for _, usage := range always {
		if !slices.Contains(req.Usages, usage) {
			add("usages", fmt.Sprintf("%q", req.Usages), fmt.Sprintf("must hold %q, as ACME servers certify nothing without it", usage))
		}
	}
	if len(ids) > maxNames {
		add("dnsNames and ipAddresses", len(ids), fmt.Sprintf("at most %d may be in one request, as ACME servers take no more", maxNames))
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return nil, &signer.PermanentError{Err: errors.New(strings.Join(refused, "; "))}
	}
	slices.SortFunc(ids, func(a, b server.Identifier) int { return strings.Compare(a.Type+" "+a.Value, b.Type+" "+b.Value) })
	return slices.Compact(ids), nil
}

func nonEmpty(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}
