// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
)

// Names are the subject alternative names to ask for, with the pod's addresses
// filled in, sorted and without duplicates.
type Names struct {
	DNS  []string
	URIs []string
	IPs  []netip.Addr
}

// NewNames sorts names and drops duplicates.
func NewNames(dns, uris []string, ips []netip.Addr) Names {
	ips = slices.Clone(ips)
	slices.SortFunc(ips, netip.Addr.Compare)
	return Names{
		DNS:  slices.Compact(slices.Sorted(slices.Values(dns))),
		URIs: slices.Compact(slices.Sorted(slices.Values(uris))),
		IPs:  slices.Compact(ips),
	}
}

// Strings lists all names with their kind, for comparing and for error texts.
func (n Names) Strings() []string {
	var all []string
	for _, name := range n.DNS {
		all = append(all, "DNS:"+name)
	}
	for _, uri := range n.URIs {
		all = append(all, "URI:"+uri)
	}
	for _, ip := range n.IPs {
		all = append(all, "IP:"+ip.String())
	}
	return all
}

// MissingFrom returns the names that the certificate lacks.
func (n Names) MissingFrom(cert *x509.Certificate) []string {
	var has Names
	has.DNS = cert.DNSNames
	for _, uri := range cert.URIs {
		has.URIs = append(has.URIs, uri.String())
	}
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			has.IPs = append(has.IPs, a.Unmap())
		}
	}
	present := has.Strings()
	return slices.DeleteFunc(n.Strings(), func(name string) bool { return slices.Contains(present, name) })
}

// template returns a request template that holds these names and nothing else:
// no subject, no usages. Those are in the spec of the Kubernetes object.
func (n Names) template() (*x509.CertificateRequest, error) {
	request := &x509.CertificateRequest{DNSNames: n.DNS}
	for _, text := range n.URIs {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("uris: %w", err)
		}
		request.URIs = append(request.URIs, uri)
	}
	for _, ip := range n.IPs {
		request.IPAddresses = append(request.IPAddresses, ip.AsSlice())
	}
	return request, nil
}
