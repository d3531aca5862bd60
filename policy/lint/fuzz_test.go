// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"net/url"
	"slices"
	"testing"

	"github.com/certwright/certwright/policy/pattern"
)

// What a pattern covers it really matches: no name that the narrower allows is lost when it is taken out.
func FuzzCovers(f *testing.F) {
	f.Add("*.{namespace}.svc", "{service}.{namespace}.svc", "web.shop.svc")
	f.Add("*name*", "{namespace}", "shop")
	f.Add("a*c", "a*b*c", "abxbc")
	f.Add("*@example.com", "a@example.com", "a@example.com")
	f.Add("spiffe://a/*/{serviceAccount}", "spiffe://a/{namespace}/{serviceAccount}", "spiffe://a/shop/web")
	f.Add("*.{clusterDomain}", "{clusterDomain}.{clusterDomain}", "cluster.local.cluster.local")
	values := []pattern.Values{{
		pattern.Namespace: "shop", pattern.ServiceAccount: "web", pattern.Pod: "web-0", pattern.Service: "web", pattern.Hostname: "web-0",
		pattern.TrustDomain: "cluster.local", pattern.ClusterDomain: "cluster.local",
	}}
	type form struct {
		kind    kind
		parse   func(string) (pattern.Template, error)
		matches func(pattern, name string) bool
	}
	forms := []form{
		{text, pattern.ParseText, pattern.MatchGlob},
		{dnsName, pattern.ParseDNSName, func(p, name string) bool { return pattern.MatchDNSName(p, name, false) }},
		{dnsName, pattern.ParseDNSName, func(p, name string) bool { return pattern.MatchDNSName(p, name, true) }},
		{email, pattern.ParseEmail, pattern.MatchEmail},
		{uri, pattern.ParseURI, func(p, name string) bool {
			u, err := url.Parse(name)
			return err == nil && pattern.MatchURI(p, u)
		}},
	}
	f.Fuzz(func(t *testing.T, wide, narrow, name string) {
		for _, form := range forms {
			w, err := form.parse(wide)
			if err != nil {
				continue
			}
			n, err := form.parse(narrow)
			if err != nil || !form.kind.covers(wide, narrow) {
				continue
			}
			matches := func(template pattern.Template) bool {
				return slices.ContainsFunc(template.Expand(values), func(p string) bool { return form.matches(p, name) })
			}
			if matches(n) && !matches(w) {
				t.Errorf("%q is said to cover %q, and does not match %q", wide, narrow, name)
			}
		}
	})
}
