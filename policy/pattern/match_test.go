// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"net/url"
	"testing"
)

const (
	kelvin = "\u212a" // folds to k in Unicode
	longS  = "\u017f" // folds to s in Unicode
)

func TestMatchDNSName(t *testing.T) {
	for name, c := range map[string]struct {
		pattern, name   string
		plain, wildcard bool // matches without and with leave for wildcard names
	}{
		"same":                           {"a.example.com", "a.example.com", true, true},
		"one label":                      {"localhost", "localhost", true, true},
		"other case":                     {"A.example.com", "a.EXAMPLE.Com", true, true},
		"last letters in other case":     {"yz.example.com", "YZ.example.com", true, true},
		"case next to the letters":       {"a[.example.com", "a{.example.com", false, false},
		"case before the letters":        {"a@.example.com", "a`.example.com", false, false},
		"Kelvin sign":                    {"k.example.com", kelvin + ".example.com", false, false},
		"long s":                         {"s.example.com", longS + ".example.com", false, false},
		"Cyrillic a":                     {"a.example.com", "\u0430.example.com", false, false},
		"full-width dot":                 {"a.example.com", "a\uff0eexample.com", false, false},
		"zero-width space":               {"a.example.com", "a\u200b.example.com", false, false},
		"punycode is not what it shows":  {"b\u00fccher.example", "xn--bcher-kva.example", false, false},
		"punycode":                       {"xn--bcher-kva.example", "xn--bcher-kva.example", true, true},
		"punycode under *":               {"*.example", "xn--bcher-kva.example", true, true},
		"trailing dot":                   {"a.example.com", "a.example.com.", false, false},
		"leading dot":                    {"a.example.com", ".a.example.com", false, false},
		"double dot":                     {"a.example.com", "a..example.com", false, false},
		"empty":                          {"a.example.com", "", false, false},
		"empty label in both":            {"a..com", "a..com", false, false},
		"both empty":                     {"", "", false, false},
		"NUL":                            {"a.example.com", "a.example.com\x00.evil.com", false, false},
		"newline":                        {"a.example.com", "a.example.com\n", false, false},
		"prefix of the pattern":          {"a.example.com", "a.example", false, false},
		"suffix of the pattern":          {"a.example.com", "example.com", false, false},
		"longer at the end":              {"a.example.com", "a.example.com.evil", false, false},
		"longer at the front":            {"a.example.com", "evil.a.example.com", false, false},
		"longer label":                   {"a.example.com", "aa.example.com", false, false},
		"shorter label":                  {"aa.example.com", "a.example.com", false, false},
		"one label for *":                {"*.example.com", "a.example.com", true, true},
		"hyphen for the dot":             {"*.example.com", "evil-example.com", false, false},
		"hyphen before":                  {"*.example.com", "a.evil-example.com", false, false},
		"no label for *":                 {"*.example.com", "example.com", false, false},
		"empty label for *":              {"*.example.com", ".example.com", false, false},
		"two labels for *":               {"*.example.com", "a.b.example.com", false, false},
		"other domain for *":             {"*.example.com", "a.example.org", false, false},
		"longer for *":                   {"*.example.com", "a.example.com.evil", false, false},
		"* in the middle":                {"a.*.com", "a.example.com", true, true},
		"* in the middle, empty":         {"a.*.com", "a..com", false, false},
		"* at the end":                   {"a.*", "a.com", true, true},
		"* at the end, empty":            {"a.*", "a.", false, false},
		"* at the end, missing":          {"a.*", "a", false, false},
		"two *":                          {"*.*.com", "a.b.com", true, true},
		"wildcard":                       {"*.example.com", "*.example.com", false, true},
		"wildcard for a label":           {"a.example.com", "*.example.com", false, false},
		"wildcard below":                 {"*.example.com", "*.a.example.com", false, false},
		"wildcard above":                 {"*.example.com", "*.com", false, false},
		"wildcard before a label":        {"*.*.com", "*.example.com", false, true},
		"wildcard for the second *":      {"*.*.com", "a.*.com", false, false},
		"wildcards for both *":           {"*.*.com", "*.*.com", false, false},
		"wildcard behind a label":        {"a.*.com", "a.*.com", false, false},
		"part of a label":                {"*.example.com", "a*.example.com", false, false},
		"part of the same label":         {"a*.example.com", "a*.example.com", false, false},
		"* alone":                        {"*", "a", true, true},
		"* alone does not stand for dot": {"*", "a.b", false, false},
		"pattern in the name":            {"a.example.com", "*", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := MatchDNSName(c.pattern, c.name, false); got != c.plain {
				t.Errorf("MatchDNSName(%q, %q, false) = %v", c.pattern, c.name, got)
			}
			if got := MatchDNSName(c.pattern, c.name, true); got != c.wildcard {
				t.Errorf("MatchDNSName(%q, %q, true) = %v", c.pattern, c.name, got)
			}
		})
	}
}

func TestMatchURI(t *testing.T) {
	for name, c := range map[string]struct {
		pattern, uri string
		want         bool
	}{
		"same":                        {"spiffe://td/ns/a", "spiffe://td/ns/a", true},
		"host only":                   {"spiffe://td", "spiffe://td", true},
		"host and slash":              {"spiffe://td", "spiffe://td/", false},
		"slash and host":              {"spiffe://td/", "spiffe://td", false},
		"scheme in upper case":        {"spiffe://td/a", "SPIFFE://td/a", true},
		"host in upper case":          {"spiffe://td/a", "spiffe://TD/a", true},
		"path in upper case":          {"spiffe://td/a", "spiffe://td/A", false},
		"other scheme":                {"spiffe://td/a", "http://td/a", false},
		"longer scheme":               {"http://td/a", "https://td/a", false},
		"other host":                  {"spiffe://td/a", "spiffe://tde/a", false},
		"host as a prefix":            {"spiffe://td/a", "spiffe://td.evil/a", false},
		"Kelvin sign in the host":     {"https://k.example/a", "https://" + kelvin + ".example/a", false},
		"long s in the host":          {"https://s.example/a", "https://" + longS + ".example/a", false},
		"port":                        {"https://td/a", "https://td:443/a", false},
		"empty port":                  {"https://td/a", "https://td:/a", false},
		"same port":                   {"https://td:8443/a", "https://td:8443/a", true},
		"other port":                  {"https://td:8443/a", "https://td:8444/a", false},
		"no port":                     {"https://td:8443/a", "https://td/a", false},
		"user":                        {"https://td/a", "https://evil@td/a", false},
		"empty user":                  {"https://td/a", "https://@td/a", false},
		"host as user":                {"https://td/a", "https://td@evil/a", false},
		"query":                       {"https://td/a", "https://td/a?b", false},
		"empty query":                 {"https://td/a", "https://td/a?", false},
		"fragment":                    {"https://td/a", "https://td/a#b", false},
		"query under *":               {"https://td/*", "https://td/a?b", false},
		"fragment under *":            {"https://td/*", "https://td/a#b", false},
		"no host":                     {"https://td/a", "https:///a", false},
		"opaque":                      {"https://td/a", "https:td/a", false},
		"relative":                    {"https://td/a", "/a", false},
		"longer path":                 {"spiffe://td/a", "spiffe://td/a/b", false},
		"shorter path":                {"spiffe://td/a/b", "spiffe://td/a", false},
		"longer segment":              {"spiffe://td/a", "spiffe://td/ab", false},
		"trailing slash":              {"spiffe://td/a", "spiffe://td/a/", false},
		"double slash":                {"spiffe://td/a/b", "spiffe://td/a//b", false},
		"double slash at the host":    {"spiffe://td/a", "spiffe://td//a", false},
		"dot segment":                 {"spiffe://td/a", "spiffe://td/./a", false},
		"dots up":                     {"spiffe://td/a", "spiffe://td/b/../a", false},
		"encoded letter":              {"https://td/a", "https://td/%61", false},
		"encoded slash":               {"https://td/a/b", "https://td/a%2Fb", false},
		"encoded slash in both":       {"https://td/a%2Fb", "https://td/a%2Fb", true},
		"other spelling of encoding":  {"https://td/a%2Fb", "https://td/a%2fb", false},
		"one segment for *":           {"spiffe://td/ns/*/sa/b", "spiffe://td/ns/a/sa/b", true},
		"last segment for *":          {"spiffe://td/*", "spiffe://td/a", true},
		"no segment for *":            {"spiffe://td/*", "spiffe://td", false},
		"empty segment for *":         {"spiffe://td/*", "spiffe://td/", false},
		"empty segment inside for *":  {"spiffe://td/ns/*/sa", "spiffe://td/ns//sa", false},
		"two segments for *":          {"spiffe://td/*", "spiffe://td/a/b", false},
		"other segment behind *":      {"spiffe://td/*/b", "spiffe://td/a/c", false},
		"dot for *":                   {"spiffe://td/*/b", "spiffe://td/./b", false},
		"dots for *":                  {"spiffe://td/*/b", "spiffe://td/../b", false},
		"three dots for *":            {"spiffe://td/*/b", "spiffe://td/.../b", true},
		"encoded dots for *":          {"https://td/*/b", "https://td/%2e%2E/b", false},
		"encoded dot for *":           {"https://td/*/b", "https://td/%2e/b", false},
		"half encoded dots for *":     {"https://td/*/b", "https://td/.%2e/b", false},
		"encoded slash for *":         {"https://td/*", "https://td/a%2Fb", false},
		"encoded backslash for *":     {"https://td/*", "https://td/a%5Cb", false},
		"encoded text for *":          {"https://td/*", "https://td/b%C3%BCcher", true},
		"* for *":                     {"https://td/*", "https://td/*", true},
		"* in the request":            {"https://td/a", "https://td/*", false},
		"host is not under *":         {"https://*/a", "https://td/a", false},
		"pattern without a scheme":    {"td/a", "https://td/a", false},
		"pattern with another scheme": {"https:td/a", "https://td/a", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := MatchURI(c.pattern, mustURL(t, c.uri)); got != c.want {
				t.Errorf("MatchURI(%q, %q) = %v", c.pattern, c.uri, got)
			}
		})
	}
	t.Run("opaque text that looks whole", func(t *testing.T) {
		if MatchURI("https://td/a", &url.URL{Scheme: "https", Host: "td", Path: "/a", Opaque: "//evil/a"}) {
			t.Error("matched")
		}
	})
}

func TestMatchEmail(t *testing.T) {
	for name, c := range map[string]struct {
		pattern, address string
		want             bool
	}{
		"same":                   {"ops@example.com", "ops@example.com", true},
		"domain in upper case":   {"ops@example.com", "ops@EXAMPLE.com", true},
		"mailbox in upper case":  {"ops@example.com", "OPS@example.com", false},
		"other mailbox":          {"ops@example.com", "dev@example.com", false},
		"longer mailbox":         {"ops@example.com", "ops+x@example.com", false},
		"other domain":           {"ops@example.com", "ops@example.org", false},
		"domain below":           {"*@example.com", "ops@sub.example.com", false},
		"domain as a suffix":     {"*@example.com", "ops@evil-example.com", false},
		"long s":                 {"*@s.example", "ops@" + longS + ".example", false},
		"any mailbox":            {"*@example.com", "ops@example.com", true},
		"empty mailbox":          {"*@example.com", "@example.com", false},
		"no mailbox":             {"*@example.com", "example.com", false},
		"two @":                  {"*@example.com", "a@evil.com@example.com", false},
		"two @, first one":       {"*@example.com", "a@example.com@evil.com", false},
		"quoted @":               {"*@example.com", `"a@b"@example.com`, false},
		"empty domain":           {"*@", "ops@", false},
		"trailing dot":           {"*@example.com", "ops@example.com.", false},
		"pattern without an @":   {"example.com", "example.com", false},
		"empty":                  {"", "", false},
		"* in the mailbox is no": {"o*@example.com", "ops@example.com", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := MatchEmail(c.pattern, c.address); got != c.want {
				t.Errorf("MatchEmail(%q, %q) = %v", c.pattern, c.address, got)
			}
		})
	}
}

func TestMatchGlob(t *testing.T) {
	for name, c := range map[string]struct {
		pattern, text string
		want          bool
	}{
		"same":                     {"a.b", "a.b", true},
		"no character is special":  {"a.b", "axb", false},
		"brackets are not special": {"[ab]?", "a", false},
		"prefix":                   {"ab", "abc", false},
		"suffix":                   {"bc", "abc", false},
		"other case":               {"ab", "AB", false},
		"Kelvin sign":              {"k*", kelvin, false},
		"empty":                    {"", "", true},
		"empty pattern":            {"", "a", false},
		"anything":                 {"*", "a b\n", true},
		"anything is nothing":      {"*", "", true},
		"two anythings":            {"**", "", true},
		"front":                    {"a*", "abc", true},
		"front alone":              {"a*", "a", true},
		"wrong front":              {"a*", "ba", false},
		"end":                      {"*c", "abc", true},
		"end alone":                {"*c", "c", true},
		"wrong end":                {"*c", "cb", false},
		"both":                     {"a*c", "abc", true},
		"both and nothing":         {"a*c", "ac", true},
		"ends do not overlap":      {"aba*aba", "ababa", false},
		"ends touch":               {"ab*ab", "abab", true},
		"middle":                   {"a*b*c", "axbyc", true},
		"middle missing":           {"a*b*c", "axyc", false},
		"middle only in the end":   {"a*c*c", "ac", false},
		"middle only in the front": {"a*a*c", "ac", false},
		"order of middles":         {"*a*b*", "ba", false},
		"middles do not overlap":   {"*aba*aba*", "ababa", false},
		"again after a dead end":   {"*ab*c", "aab-abc", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := MatchGlob(c.pattern, c.text); got != c.want {
				t.Errorf("MatchGlob(%q, %q) = %v", c.pattern, c.text, got)
			}
		})
	}
}

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
