// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"slices"
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	const (
		short      = "must be a URI without user, query and fragment"
		hostNeeded = "must start with a scheme and a host, such as spiffe://example.com/"
		notEmail   = "must be an address such as ops@example.com, or *@example.com"
	)
	for name, c := range map[string]struct {
		parse func(string) (Template, error)
		text  string
		want  string
	}{
		"DNS name: star in a label":       {ParseDNSName, "a*.example.com", "* must be a whole label, as in *.example.com"},
		"DNS name: two stars in a label":  {ParseDNSName, "**.example.com", "* must be a whole label"},
		"DNS name: star at a placeholder": {ParseDNSName, "*{service}.svc", "* must be a whole label"},
		"DNS name: empty":                 {ParseDNSName, "", "empty"},
		"DNS name: empty label":           {ParseDNSName, "a..example.com", "empty label"},
		"DNS name: trailing dot":          {ParseDNSName, "a.example.com.", "ends with a dot"},
		"DNS name: upper case":            {ParseDNSName, "A.example.com", "lower-case"},
		"DNS name: not ASCII":             {ParseDNSName, "b\u00fccher.example", "ASCII"},
		"DNS name: address":               {ParseDNSName, "10.1.2.3", "IP address"},
		"DNS name: space":                 {ParseDNSName, "a.example.com ", "character"},
		"DNS name: URI":                   {ParseDNSName, "https://a.example.com", "character"},
		"DNS name: unknown placeholder":   {ParseDNSName, "{svc}.svc", "unknown placeholder {svc}"},
		"DNS name: bare hostname":         {ParseDNSName, "{hostname}.svc", "{hostname} without {service}"},
		"DNS name: placeholders that run": {ParseDNSName, "{service}-{namespace}.example.com", "can be read in two ways"},
		"URI: no scheme":                  {ParseURI, "example.com/a", hostNeeded},
		"URI: empty scheme":               {ParseURI, "://example.com/a", hostNeeded},
		"URI: no host":                    {ParseURI, "spiffe:///a", hostNeeded},
		"URI: opaque":                     {ParseURI, "urn:example", hostNeeded},
		"URI: star as host":               {ParseURI, "spiffe://*/a", "* must be a path segment; scheme and host are compared whole"},
		"URI: star in host":               {ParseURI, "https://*.example.com/a", "* must be a path segment"},
		"URI: star in scheme":             {ParseURI, "*://example.com/a", "* must be a path segment"},
		"URI: star in segment":            {ParseURI, "spiffe://td/a*", "* must be a whole path segment, as in spiffe://example.com/*"},
		"URI: two stars":                  {ParseURI, "spiffe://td/**", "* must be a whole path segment"},
		"URI: user":                       {ParseURI, "https://me@example.com/", short},
		"URI: query":                      {ParseURI, "https://example.com/?a=b", short},
		"URI: empty query":                {ParseURI, "https://example.com/?", ""},
		"URI: fragment":                   {ParseURI, "https://example.com/#a", short},
		"URI: empty fragment":             {ParseURI, "https://example.com/#", short},
		"URI: space":                      {ParseURI, "https://example.com/a b", short},
		"URI: does not parse":             {ParseURI, "https://exa mple.com/a", short},
		"URI: dot segment":                {ParseURI, "spiffe://td/a/../b", "empty segment, . or .."},
		"URI: empty segment":              {ParseURI, "https://example.com/a//b", "empty segment, . or .."},
		"URI: trailing slash of an ID":    {ParseURI, "spiffe://td/a/", "slash at its end"},
		"URI: host in upper case":         {ParseURI, "https://Example.com/", "lower-case"},
		"URI: encoded slash":              {ParseURI, "https://example.com/a%2Fb", "percent-encoding"},
		"email: no @":                     {ParseEmail, "example.com", notEmail},
		"email: no mailbox":               {ParseEmail, "@example.com", notEmail},
		"email: star in mailbox":          {ParseEmail, "o*@example.com", notEmail},
		"email: star in domain":           {ParseEmail, "ops@*.example.com", "wildcard"},
		"email: star as domain":           {ParseEmail, "*@*", ""},
		"email: no domain":                {ParseEmail, "ops@", ""},
		"email: two @":                    {ParseEmail, "a@b@example.com", ""},
		"email: space in mailbox":         {ParseEmail, "a b@example.com", "needs quoting"},
		"text: unknown placeholder":       {ParseText, "{cn}", "unknown placeholder {cn}"},
		"text: brace":                     {ParseText, "{", "a brace without its pair"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	for name, c := range map[string]struct {
		parse func(string) (Template, error)
		texts []string
	}{
		"DNS names": {ParseDNSName, []string{"*.example.com", "a.*.example.com", "*", "{hostname}.{service}.{namespace}.svc.{clusterDomain}", "xn--bcher-kva.example", "{namespace}-web.example.com"}},
		"URIs": {ParseURI, []string{
			"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}", "spiffe://td", "spiffe://td/*/b", "https://[2001:db8::1]:8443/a",
			"https://{service}.{namespace}.svc:8443/", "https://example.com", "https://example.com/b%C3%BCcher",
		}},
		"email addresses": {ParseEmail, []string{"*@example.com", "ops@example.com", "{serviceAccount}@{namespace}.example.com"}},
		"texts":           {ParseText, []string{"*", "system:serviceaccount:{namespace}:{serviceAccount}", "a*b*c", "", "b\u00fccher AG"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range c.texts {
				if parsed, err := c.parse(text); err != nil || parsed.String() != text {
					t.Errorf("%q: %q, %v", text, parsed, err)
				}
			}
		})
	}
}

func TestExpand(t *testing.T) {
	sets := []Values{{Namespace: "shop", Service: "db", Hostname: "h"}, {Namespace: "shop", Service: "web"}}
	for text, c := range map[string]struct {
		sets []Values
		want []string
	}{
		"a.svc":                          {sets, []string{"a.svc"}},
		"{namespace}.svc":                {sets, []string{"shop.svc"}},
		"{service}.{namespace}.svc":      {sets, []string{"db.shop.svc", "web.shop.svc"}},
		"{hostname}.{service}.svc":       {sets, []string{"h.db.svc"}},
		"{pod}.svc":                      {sets, nil},
		"{namespace}.example.com":        {nil, nil},
		"{service}.{namespace}.many.svc": {nil, nil},
		"{namespace}.svc.example.com":    {[]Values{{Namespace: "a.b"}}, nil},
	} {
		t.Run(text, func(t *testing.T) {
			parsed, err := ParseDNSName(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := parsed.Expand(c.sets); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
