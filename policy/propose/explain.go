// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package propose

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/policy/pattern"
)

// explain returns the patterns that allow what a request asks for, by list. A value that no pattern can say exactly, such as
// a common name with a * in it, is left out, and so the request is not permitted.
func explain(seen Seen) map[string]map[string]bool {
	e := explainer{facts: seen.Facts, found: map[string]map[string]bool{}}
	req := &seen.Request
	e.namespace, e.serviceAccount, _ = req.Requester.ServiceAccount()
	for _, name := range req.DNSNames {
		e.add(dnsNames, e.dnsName(name))
	}
	for _, u := range req.URIs {
		e.add(uris, e.uri(u))
	}
	for _, ip := range req.IPAddresses {
		e.add(ipAddresses, e.ipAddress(ip))
	}
	for _, address := range req.EmailAddresses {
		e.add(emailAddresses, exact(address))
	}
	s := &req.Subject
	e.add(commonNames, e.commonName(s.CommonName))
	for list, values := range map[string][]string{
		"organizations": s.Organization, "organizationalUnits": s.OrganizationalUnit, "countries": s.Country, "provinces": s.Province,
		"localities": s.Locality, "streetAddresses": s.StreetAddress, "postalCodes": s.PostalCode, "serialNumbers": {s.SerialNumber},
	} {
		for _, value := range values {
			e.add("subject."+list, exact(value))
		}
	}
	return e.found
}

type explainer struct {
	facts                     policy.Facts
	namespace, serviceAccount string
	found                     map[string]map[string]bool
}

func (e *explainer) add(list, value string) {
	if value == "" {
		return
	}
	if e.found[list] == nil {
		e.found[list] = map[string]bool{}
	}
	e.found[list][value] = true
}

// exact is the pattern for one value; empty if the value has characters that mean something else in patterns.
func exact(value string) string {
	if strings.ContainsAny(value, "*{}") {
		return ""
	}
	return value
}

func hole(placeholder string) string { return "{" + placeholder + "}" }

// dnsName replaces whole labels by placeholders: of all ways to do so the one with most of them.
func (e *explainer) dnsName(name string) string {
	best := name
	if rest, ok := strings.CutPrefix(name, "*."); ok && exact(rest) == "" || !ok && exact(name) == "" {
		return ""
	}
	services := append([]policy.Service{{}}, e.facts.Services...)
	for _, service := range services {
		text, values := e.dnsTemplate(name, service)
		template, err := pattern.ParseDNSName(text)
		if err != nil || strings.Count(text, "{") <= strings.Count(best, "{") {
			continue
		}
		if slices.ContainsFunc(template.Expand([]pattern.Values{values}), func(p string) bool { return pattern.MatchDNSName(p, name, true) }) {
			best = text
		}
	}
	return best
}

// dnsTemplate replaces what a Service explains; a Service without a name explains nothing.
func (e *explainer) dnsTemplate(name string, service policy.Service) (string, pattern.Values) {
	values := pattern.Values{pattern.ClusterDomain: e.facts.ClusterDomain, pattern.Namespace: e.namespace}
	base, inCluster := strings.CutSuffix(name, "."+e.facts.ClusterDomain)
	labels := strings.Split(base, ".")
	asked := slices.Clone(labels)
	isNext := func(i int, label string) bool { return label != "" && i+1 < len(asked) && asked[i+1] == label }
	for i, label := range asked {
		pod := e.facts.Pod
		switch {
		case service.Name != "" && label == service.Name && isNext(i, e.namespace):
			labels[i], values[pattern.Service] = hole(pattern.Service), service.Name
		case pod != nil && pod.Hostname != "" && label == pod.Hostname && service.Headless && service.Name == pod.Subdomain && isNext(i, service.Name):
			labels[i], values[pattern.Hostname] = hole(pattern.Hostname), pod.Hostname
		case label == e.namespace && i > 0:
			labels[i] = hole(pattern.Namespace)
		}
	}
	if inCluster && e.facts.ClusterDomain != "" {
		labels = append(labels, hole(pattern.ClusterDomain))
	}
	return strings.Join(labels, "."), values
}

// uri replaces the host and whole path segments by placeholders.
func (e *explainer) uri(u *url.URL) string {
	text := u.String()
	if exact(text) == "" {
		return ""
	}
	parts := strings.Split(text, "/")
	for i := 2; i < len(parts); i++ {
		switch {
		case i == 2 && parts[i] == e.facts.TrustDomain:
			parts[i] = hole(pattern.TrustDomain)
		case i > 2 && e.namespace != "" && parts[i] == e.namespace && parts[i-1] != "sa":
			parts[i] = hole(pattern.Namespace)
		case i > 2 && e.serviceAccount != "" && parts[i] == e.serviceAccount:
			parts[i] = hole(pattern.ServiceAccount)
		}
	}
	values := pattern.Values{pattern.TrustDomain: e.facts.TrustDomain, pattern.Namespace: e.namespace, pattern.ServiceAccount: e.serviceAccount}
	template, err := pattern.ParseURI(strings.Join(parts, "/"))
	if err == nil && slices.ContainsFunc(template.Expand([]pattern.Values{values}), func(p string) bool { return pattern.MatchURI(p, u) }) {
		return template.String()
	}
	if _, err := pattern.ParseURI(text); err != nil {
		return ""
	}
	return text
}

func (e *explainer) ipAddress(ip netip.Addr) string {
	if e.facts.Pod != nil && slices.Contains(e.facts.Pod.IPs, ip) {
		return "pod"
	}
	return ip.String()
}

// commonName is the service account's name, one like those of DNS, or what it is.
func (e *explainer) commonName(name string) string {
	switch {
	case exact(name) == "":
		return ""
	case name == e.serviceAccount:
		return hole(pattern.ServiceAccount)
	case strings.Contains(name, "."):
		return e.dnsName(name)
	}
	return name
}
