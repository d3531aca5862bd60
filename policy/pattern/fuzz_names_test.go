// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"maps"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzMatchDNSName holds the matcher against a regular expression built label by label.
func FuzzMatchDNSName(f *testing.F) {
	for _, pattern := range []string{"a.example.com", "*.example.com", "a.*.com", "*.*.com", "*", "a..b", "", "k.S", "a*.com"} {
		for _, name := range []string{"a.example.com", "*.example.com", "A.EXAMPLE.com", "evil-example.com", "a.b.example.com", "example.com.", "", "*.b.com", kelvin + "." + longS} {
			f.Add(pattern, name, len(name)%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string, wildcards bool) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(name) {
			return // regular expressions take all broken characters for the same
		}
		var labels []string
		for i, label := range strings.Split(pattern, ".") {
			switch {
			case label == "*" && i == 0 && wildcards:
				labels = append(labels, `(\*|[^.*]+)`)
			case label == "*":
				labels = append(labels, `[^.*]+`)
			case label == "" || strings.Contains(label, "*"):
				labels = append(labels, `[^\x00-\x{10FFFF}]`) // matches nothing
			default:
				labels = append(labels, asciiFold(label))
			}
		}
		reference := regexp.MustCompile(`(?s)\A` + strings.Join(labels, `\.`) + `\z`)
		if got, want := MatchDNSName(pattern, name, wildcards), reference.MatchString(name); got != want {
			t.Errorf("MatchDNSName(%q, %q, %v) = %v, %s says %v", pattern, name, wildcards, got, reference, want)
		}
	})
}

// asciiFold is a regular expression for text in which every ASCII letter may be in either case.
func asciiFold(text string) string {
	var b strings.Builder
	for _, r := range text {
		if s := string(r); strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			b.WriteString("[" + strings.ToLower(s) + strings.ToUpper(s) + "]")
		} else {
			b.WriteString(regexp.QuoteMeta(s))
		}
	}
	return b.String()
}

// FuzzMatchGlob holds the matcher against a regular expression.
func FuzzMatchGlob(f *testing.F) {
	for _, pattern := range []string{"", "*", "a*", "*a", "a*b", "**", "aba*aba", "*ab*ab*", "a.b"} {
		for _, text := range []string{"", "a", "ab", "ababa", "abab", "a*b", "axb"} {
			f.Add(pattern, text)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			return // regular expressions take all broken characters for the same
		}
		reference := regexp.MustCompile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `\z`)
		if got, want := MatchGlob(pattern, text), reference.MatchString(text); got != want {
			t.Errorf("MatchGlob(%q, %q) = %v", pattern, text, got)
		}
	})
}

// FuzzMatchURI holds the matcher against a regular expression for each part.
func FuzzMatchURI(f *testing.F) {
	for _, pattern := range []string{"spiffe://td/a", "spiffe://td/*", "https://td:8443/*/b", "https://td", "https://td/a%2Fb", "https://td/", "https://td/*/*", "://", "td/a", "https:///a"} {
		for _, uri := range []string{
			"spiffe://TD/a", "spiffe://td//", "https://td:8443/../b", "https://td:8443/x/b", "https://u@td/", "https://td", "https://td/", "https://td/a%2Fb", "https://td/%2e",
			"https://td/a/.../b", "https://td?x", "https://td/a?", "https://td/#a", "https:td/a", "/a", "https:///a",
		} {
			f.Add(pattern, uri)
		}
	}
	name := regexp.MustCompile(`(?s)\A(\.{3,}|[^/\\]*[^./\\][^/\\]*)\z`)
	f.Fuzz(func(t *testing.T, pattern, text string) {
		uri, err := url.Parse(text)
		if err != nil || !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			return // regular expressions take all broken characters for the same
		}
		// The parts are joined by a character that URLs do not have, in place of those that part them.
		reference := regexp.MustCompile(`[^\x00-\x{10FFFF}]`) // matches nothing
		if scheme, rest, ok := strings.Cut(pattern, "://"); ok {
			segments := strings.Split(rest, "/")
			expression := `(?s)\A` + asciiFold(scheme) + "\n" + asciiFold(segments[0])
			for _, segment := range segments[1:] {
				if segment == "*" {
					expression += `/([^/]*)`
				} else {
					expression += "/" + regexp.QuoteMeta(segment)
				}
			}
			reference = regexp.MustCompile(expression + `\z`)
		}
		more := uri.User != nil || uri.RawQuery != "" || uri.ForceQuery || uri.Fragment != "" || uri.Opaque != ""
		match := reference.FindStringSubmatch(uri.Scheme + "\n" + uri.Host + uri.EscapedPath())
		want := match != nil && !more
		if want {
			for _, segment := range match[1:] {
				decoded, err := url.PathUnescape(segment)
				want = want && err == nil && name.MatchString(decoded)
			}
		}
		if got := MatchURI(pattern, uri); got != want {
			t.Errorf("MatchURI(%q, %q) = %v, %s says %v", pattern, text, got, reference, want)
		}
	})
}

// FuzzMatchEmail holds the matcher against a regular expression.
func FuzzMatchEmail(f *testing.F) {
	for _, pattern := range []string{"ops@example.com", "*@example.com", "*@", "@", "", "example.com", "o*@example.com", "a@b@c", "*@k.s"} {
		for _, address := range []string{"ops@example.com", "OPS@EXAMPLE.com", "@example.com", "example.com", "ops@", "a@b@c", "*@example.com", "a@" + kelvin + "." + longS} {
			f.Add(pattern, address)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, address string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(address) {
			return // regular expressions take all broken characters for the same
		}
		local, domain, _ := strings.Cut(pattern, "@")
		expression := regexp.QuoteMeta(local)
		if local == "*" {
			expression = `[^@]+`
		}
		reference := regexp.MustCompile(`(?s)\A` + expression + `@` + asciiFold(domain) + `\z`)
		want := local != "" && domain != "" && reference.MatchString(address)
		if got := MatchEmail(pattern, address); got != want {
			t.Errorf("MatchEmail(%q, %q) = %v, want %v", pattern, address, got, want)
		}
	})
}

// FuzzParseTemplate parses anything, and puts what was parsed together again.
func FuzzParseTemplate(f *testing.F) {
	for _, text := range []string{"", "a", "{namespace}", "{hostname}.{service}", "{namespace}{namespace}", "{", "}", "{}", "{a{namespace}}", "spiffe://{trustDomain}/{serviceAccount}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseTemplate(text, inHost)
		if err != nil {
			return
		}
		self, long := Values{}, Values{}
		for _, name := range placeholders {
			self[name], long[name] = "{"+name+"}", "sample"
		}
		if got, ok := parsed.expand(self); !ok || got != text {
			t.Errorf("%q became %q", text, got)
		}
		if got, _ := parsed.expand(long); strings.ContainsAny(got, "{}") {
			t.Errorf("%q expands to %q", text, got)
		}
		if _, ok := parsed.expand(Values{}); ok == strings.Contains(text, "{") {
			t.Errorf("%q expands without values: %v", text, ok)
		}
	})
}

// FuzzExpand holds expansion against a plain replacement, in which no value inside the host of a URI may have a dot.
func FuzzExpand(f *testing.F) {
	for _, text := range []string{"a", "{namespace}", "https://{pod}.x/{serviceAccount}", "spiffe://{trustDomain}/{serviceAccount}", "{hostname}.{service}/{pod}", "https://x{pod}"} {
		for _, value := range []string{"a", "a.b", "."} {
			f.Add(text, value, "c", len(value)%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, text, one, two string, missing bool) {
		parsed, err := parseTemplate(text, inHost)
		if err != nil || strings.ContainsAny(one+two, "{}/:") {
			return
		}
		given, pairs := Values{}, []string{}
		for i, name := range placeholders {
			given[name] = []string{one, two}[i%2]
			pairs = append(pairs, "{"+name+"}", given[name])
		}
		want, wantOK := strings.NewReplacer(pairs...).Replace(text), true
		if missing {
			delete(given, Pod)
			wantOK = !strings.Contains(text, "{pod}")
		}
		_, host, _ := strings.Cut(text, "://")
		host, _, _ = strings.Cut(host, "/")
		for _, name := range placeholders {
			if strings.Contains(host, "{"+name+"}") && strings.Contains(given[name], ".") && !isDomain(name) {
				wantOK = false
			}
		}
		if got, ok := parsed.expand(given); ok != wantOK || ok && got != want {
			t.Errorf("%q with %v became %q, %v; want %q, %v", text, given, got, ok, want, wantOK)
		}
	})
}

// FuzzUnambiguous looks for two requesters to whom a template that is not refused gives the same text.
func FuzzUnambiguous(f *testing.F) {
	pieces := []string{"{namespace}", "{serviceAccount}", "{pod}", "{service}", "{service}.{hostname}", "{trustDomain}", ".", "-", "/", ":", "_", "a", "a.a", "-a.a-", "://", "@"}
	random := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		text := ""
		for range 1 + random.IntN(6) {
			text += pieces[random.IntN(len(pieces))]
		}
		f.Add(text, uint8(random.IntN(4)))
	}
	labels := []string{"a", "aa", "a-a", "aaa", "a-a-a"}
	dotted := append([]string{"a.a", "a-a.a", "a.a-a", "a.a.a"}, labels...)
	f.Fuzz(func(t *testing.T, text string, kind uint8) {
		parsed, err := parseTemplate(text, []inDNSName{always, never, inHost, inDomain}[kind%4])
		if err != nil {
			return
		}
		// All requesters that differ in what the template uses of them.
		requesters := []Values{{TrustDomain: "a.a", ClusterDomain: "a"}}
		for _, name := range placeholders {
			if isDomain(name) || !parsed.Uses(name) {
				continue
			}
			names := labels
			if name == ServiceAccount || name == Pod {
				names = dotted
			}
			var more []Values
			for _, r := range requesters {
				for _, value := range names {
					r = maps.Clone(r)
					r[name] = value
					more = append(more, r)
				}
			}
			requesters = more
		}
		owners := map[string]Values{}
		for _, r := range requesters[:min(len(requesters), 2000)] {
			got, ok := parsed.expand(r)
			if !ok {
				continue
			}
			if other := owners[got]; other != nil {
				t.Fatalf("%q is %q for %v and for %v", text, got, r, other)
			}
			owners[got] = r
		}
	})
}
