// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// names are the subject alternative names to ask for, with the pod's addresses
// filled in, sorted and without duplicates.
type names struct {
	dns  []string
	uris []string
	ips  []netip.Addr
}

// resolveNames turns a valid Config into names. podIPs is the value of PodIPsEnv.
func resolveNames(c Config, podIPs string) (names, error) {
	var ips []netip.Addr
	for _, text := range c.IPAddresses {
		if text == PodIP {
			pod, err := parsePodIPs(podIPs)
			if err != nil {
				return names{}, err
			}
			ips = append(ips, pod...)
			continue
		}
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return names{}, fmt.Errorf("ipAddresses: %w", err)
		}
		ips = append(ips, ip.Unmap())
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return names{
		dns:  slices.Compact(slices.Sorted(slices.Values(c.DNSNames))),
		uris: slices.Compact(slices.Sorted(slices.Values(c.URIs))),
		ips:  slices.Compact(ips),
	}, nil
}

func parsePodIPs(list string) ([]netip.Addr, error) {
	var ips []netip.Addr
	for text := range strings.SplitSeq(list, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("ipAddresses contains %q, which needs %s, but its value %q is not a comma-separated list of IP addresses: set it from the downward API's status.podIPs", PodIP, PodIPsEnv, list)
		}
		ips = append(ips, ip.Unmap())
	}
	return ips, nil
}

// strings lists all names with their kind, for comparing and for error texts.
func (n names) strings() []string {
	var all []string
	for _, name := range n.dns {
		all = append(all, "DNS:"+name)
	}
	for _, uri := range n.uris {
		all = append(all, "URI:"+uri)
	}
	for _, ip := range n.ips {
		all = append(all, "IP:"+ip.String())
	}
	return all
}

// missingFrom returns the names that the certificate lacks.
func (n names) missingFrom(cert *x509.Certificate) []string {
	var has names
	has.dns = cert.DNSNames
	for _, uri := range cert.URIs {
		has.uris = append(has.uris, uri.String())
	}
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			has.ips = append(has.ips, a.Unmap())
		}
	}
	present := has.strings()
	return slices.DeleteFunc(n.strings(), func(name string) bool { return slices.Contains(present, name) })
}

// template returns a request template that holds these names and nothing else:
// no subject, no usages. Those are in the spec of the Kubernetes object.
func (n names) template() (*x509.CertificateRequest, error) {
	request := &x509.CertificateRequest{DNSNames: n.dns}
	for _, text := range n.uris {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("uris: %w", err)
		}
		request.URIs = append(request.URIs, uri)
	}
	for _, ip := range n.ips {
		request.IPAddresses = append(request.IPAddresses, ip.AsSlice())
	}
	return request, nil
}
