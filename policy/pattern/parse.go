// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/certwright/certwright/csr"
)

// ParseDNSName parses a pattern for DNS names, to be matched by MatchDNSName.
func ParseDNSName(text string) (Template, error) { return parse(text, always, checkDNSName) }

// ParseURI parses a pattern for URIs, to be matched by MatchURI.
func ParseURI(text string) (Template, error) { return parse(text, inHost, checkURI) }

// ParseEmail parses a pattern for email addresses, to be matched by MatchEmail.
func ParseEmail(text string) (Template, error) { return parse(text, inDomain, checkEmail) }

// ParseText parses a pattern for any text, to be matched by MatchGlob.
func ParseText(text string) (Template, error) {
	return parse(text, never, func(string) error { return nil })
}

// parse also checks the pattern with samples in the place of its placeholders.
func parse(text string, dns inDNSName, check func(sample string) error) (Template, error) {
	t, err := parseTemplate(text, dns)
	if err != nil {
		return Template{}, err
	}
	samples := Values{}
	for _, name := range placeholders {
		samples[name] = "sample"
	}
	sample, _ := t.expand(samples)
	return t, check(sample)
}

func checkDNSName(sample string) error {
	labels := strings.Split(sample, ".")
	for i, label := range labels {
		if label == "*" {
			labels[i] = "sample"
		} else if strings.Contains(label, "*") {
			return fmt.Errorf("* must be a whole label, as in *.example.com")
		}
	}
	return csr.CheckDNSName(strings.Join(labels, "."))
}

func checkURI(sample string) error {
	scheme, rest, ok := strings.Cut(sample, "://")
	host, path, _ := strings.Cut(rest, "/")
	if !ok || scheme == "" || host == "" {
		return fmt.Errorf("must start with a scheme and a host, such as spiffe://example.com/")
	}
	if strings.Contains(scheme+host, "*") {
		return fmt.Errorf("* must be a path segment; scheme and host are compared whole")
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if segment == "*" {
			segments[i] = "sample"
		} else if strings.Contains(segment, "*") {
			return fmt.Errorf("* must be a whole path segment, as in spiffe://example.com/*")
		}
	}
	uri := scheme + "://" + host
	if strings.Contains(rest, "/") {
		uri += "/" + strings.Join(segments, "/")
	}
	parsed, err := url.Parse(uri)
	if err != nil || parsed.String() != uri || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" || parsed.User != nil {
		return fmt.Errorf("must be a URI without user, query and fragment, written as short as can be")
	}
	_, err = csr.ParseURI(uri)
	return err
}

func checkEmail(sample string) error {
	local, domain, ok := strings.Cut(sample, "@")
	if !ok || (local != "*" && strings.Contains(local, "*")) || local == "" {
		return fmt.Errorf("must be an address such as ops@example.com, or *@example.com")
	}
	if local == "*" {
		local = "sample"
	}
	return csr.CheckEmailAddress(local + "@" + domain)
}
