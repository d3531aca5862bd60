// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math/rand/v2"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
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
		if got, want := matchDNSName(pattern, name, wildcards), reference.MatchString(name); got != want {
			t.Errorf("matchDNSName(%q, %q, %v) = %v, %s says %v", pattern, name, wildcards, got, reference, want)
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
		if got, want := matchGlob(pattern, text), reference.MatchString(text); got != want {
			t.Errorf("matchGlob(%q, %q) = %v", pattern, text, got)
		}
	})
}

// FuzzMatchURI has two properties: what matches a pattern without * is the pattern, but for the case of scheme and host;
// and what matches at all has as many segments, none of them different where the pattern has no *.
func FuzzMatchURI(f *testing.F) {
	for _, pattern := range []string{"spiffe://td/a", "spiffe://td/*", "https://td:8443/*/b", "https://td", "https://td/a%2Fb", "https://td/"} {
		for _, uri := range []string{"spiffe://TD/a", "spiffe://td//", "https://td:8443/../b", "https://u@td/", "https://td/a%2Fb", "https://td/%2e", "https://td?x", "https:td/a"} {
			f.Add(pattern, uri)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		uri, err := url.Parse(text)
		if err != nil || !matchURI(pattern, uri) {
			return
		}
		if uri.User != nil || uri.RawQuery != "" || uri.ForceQuery || uri.Fragment != "" || uri.Opaque != "" {
			t.Errorf("%q matches %q", pattern, text)
		}
		scheme, rest, _ := strings.Cut(pattern, "://")
		host, _, _ := strings.Cut(rest, "/")
		if !strings.EqualFold(scheme, uri.Scheme) || !strings.EqualFold(host, uri.Host) {
			t.Errorf("%q matches %q: other host", pattern, text)
		}
		want, got := strings.Split(strings.TrimPrefix(rest, host), "/"), strings.Split(uri.EscapedPath(), "/")
		if len(want) != len(got) {
			t.Fatalf("%q matches %q: other segments", pattern, text)
		}
		for i := range want {
			decoded, err := url.PathUnescape(got[i])
			if want[i] != got[i] && want[i] != "*" || want[i] == "*" && (err != nil || decoded == "" || decoded == ".." || decoded == "." || strings.Contains(decoded, "/")) {
				t.Errorf("%q matches %q: %q for %q", pattern, text, got[i], want[i])
			}
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
		self, long := values{}, values{}
		for _, name := range placeholders {
			self[name], long[name] = "{"+name+"}", "sample"
		}
		if got, ok := parsed.expand(self); !ok || got != text {
			t.Errorf("%q became %q", text, got)
		}
		if got, _ := parsed.expand(long); strings.ContainsAny(got, "{}") {
			t.Errorf("%q expands to %q", text, got)
		}
		if _, ok := parsed.expand(values{}); ok == strings.Contains(text, "{") {
			t.Errorf("%q expands without values: %v", text, ok)
		}
	})
}

// source turns fuzzed bytes into choices.
type source struct{ data []byte }

func (s *source) pick(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b) % n
}

// some picks a subset.
func some[T any](s *source, from ...T) []T {
	var picked []T
	for _, v := range from {
		if s.pick(2) == 1 {
			picked = append(picked, v)
		}
	}
	return picked
}

func (s *source) policy() *v1alpha1.CertificatePolicy {
	return plainPolicy(func(spec *v1alpha1.CertificatePolicySpec) {
		spec.Approval = []v1alpha1.Approval{"Automatic", "Manual"}[s.pick(2)]
		spec.Requesters.Groups = some(s, "system:authenticated")
		spec.Requesters.ServiceAccounts = some(s, "*", "web")
		spec.Allow = v1alpha1.Allow{
			DNSNames:    some(s, "{service}.{namespace}.svc", "{hostname}.{service}.svc", "*.svc", "{serviceAccount}.svc", "{pod}.svc", "x.svc"),
			Wildcards:   s.pick(2) == 1,
			URIs:        some(s, "spiffe://{trustDomain}/sa/{serviceAccount}", "spiffe://td.example/*/*"),
			IPAddresses: some(s, "pod", "10.0.0.0/8", "192.0.2.1"), EmailAddresses: some(s, "*@example.com"), CommonNames: some(s, "w*", "{namespace}"),
			Subject: v1alpha1.Subject{Organizations: some(s, "{namespace}", "*"), SerialNumbers: some(s, "1")},
			Usages:  some(s, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth),
			Keys:    some(s, v1alpha1.Key{Algorithm: "ECDSA", MinSize: 384}, v1alpha1.Key{Algorithm: "ECDSA"}, v1alpha1.Key{Algorithm: "RSA", MinSize: 3072}),
			IsCA:    s.pick(2) == 1,
		}
	})
}

func (s *source) request(t testing.TB, free string) csr.Request {
	return plainRequest(func(r *csr.Request) {
		r.Requester = serviceAccount("shop", []string{"web", "a.b", "x"}[s.pick(3)])
		r.DNSNames = some(s, "web.shop.svc", "host-0.db.svc", "x.svc", "*.svc", free)
		r.EmailAddresses = some(s, "ops@example.com", free)
		r.Subject.CommonName = []string{"", "web", "shop", free}[s.pick(4)]
		r.Subject.Organization = some(s, "", "shop", free)
		r.Usages = some(s, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth)
		r.Key = csr.Key{Algorithm: []string{"ECDSA", "RSA"}[s.pick(2)], Size: 256 * (1 + s.pick(16))}
		r.IsCA = s.pick(4) == 1
		r.IPAddresses = some(s, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.0.2.1"), netip.Addr{})
		if uri, err := url.Parse(free); err == nil && s.pick(3) == 1 {
			r.URIs = append(r.URIs, uri)
		}
		if s.pick(3) == 1 {
			r.URIs = append(r.URIs, mustURL(t, "spiffe://td.example/sa/web"))
		}
	})
}

// FuzzDecide has these properties: nothing panics; adding policies takes no permit away; and taking an entry away from what
// a policy allows permits nothing that was not permitted.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{}, "")
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		data := make([]byte, 120)
		for j := range data {
			data[j] = byte(random.IntN(256))
			if i%3 == 0 {
				data[j] |= 1 // allows and asks for most
			}
		}
		f.Add(data, []string{"a.svc", "spiffe://td.example/a/b", "ops@example.com", "w"}[i%4])
	}
	f.Add([]byte("\x00\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"), "spiffe://td.example/a/b")
	f.Add([]byte(strings.Repeat("\x01\x00\x01\x01", 60)), "a.svc")
	f.Add([]byte(strings.Repeat("\x01", 24)+strings.Repeat("\x00", 24)+strings.Repeat("\x01", 99)), "https://a@b/../c?d#e")
	f.Fuzz(func(t *testing.T, data []byte, free string) {
		s := &source{data}
		one, two := s.policy(), s.policy()
		req := s.request(t, free)
		facts := plainFacts(func(f *Facts) {
			f.Services = some(s, f.Services...)
			if s.pick(4) == 1 {
				f.Pod = nil
			}
			if s.pick(8) == 1 {
				f.Namespace = nil
			}
			f.PodProblem = []string{"", "", "", free}[s.pick(4)]
		})

		alone := Decide(req, facts, []*Policy{mustCompile(t, one)})
		both := Decide(req, facts, []*Policy{mustCompile(t, one), mustCompile(t, two)})
		if alone.Verdict == Permit && both.Verdict != Permit {
			t.Errorf("a second policy took a permit away: %s", both.Message())
		}
		if alone.Verdict == Deny && both.Verdict == NoOpinion {
			t.Error("a second policy took a denial away")
		}
		for _, d := range []Decision{alone, both} {
			if m := d.Message(); m == "" || len(m) > maxMessage {
				t.Errorf("a message of %d bytes", len(m))
			}
			if (d.Verdict == Deny) != (len(d.Denials) > 0) || (d.Verdict == Permit) != (d.Policy != "") {
				t.Errorf("a decision that contradicts itself: %+v", d)
			}
		}
		if alone.Verdict == Permit {
			return
		}
		for i, less := range narrower(one) {
			if d := Decide(req, facts, []*Policy{mustCompile(t, less)}); d.Verdict == Permit {
				t.Errorf("narrower policy %d permits: %+v", i, less.Spec.Allow)
			}
		}
	})
}

// narrower returns the policy once without the last entry of each list, and without each flag.
func narrower(p *v1alpha1.CertificatePolicy) []*v1alpha1.CertificatePolicy {
	var all []*v1alpha1.CertificatePolicy
	for _, narrow := range []func(*v1alpha1.Allow){
		func(a *v1alpha1.Allow) { a.DNSNames = shorter(a.DNSNames) }, func(a *v1alpha1.Allow) { a.URIs = shorter(a.URIs) },
		func(a *v1alpha1.Allow) { a.IPAddresses = shorter(a.IPAddresses) }, func(a *v1alpha1.Allow) { a.EmailAddresses = shorter(a.EmailAddresses) },
		func(a *v1alpha1.Allow) { a.CommonNames = shorter(a.CommonNames) }, func(a *v1alpha1.Allow) { a.Usages = shorter(a.Usages) },
		func(a *v1alpha1.Allow) { a.Keys = shorter(a.Keys) }, func(a *v1alpha1.Allow) { a.Subject.Organizations = shorter(a.Subject.Organizations) },
		func(a *v1alpha1.Allow) { a.Subject.SerialNumbers = shorter(a.Subject.SerialNumbers) },
		func(a *v1alpha1.Allow) { a.IsCA = false }, func(a *v1alpha1.Allow) { a.Wildcards = false },
	} {
		less := p.DeepCopy()
		narrow(&less.Spec.Allow)
		all = append(all, less)
	}
	return all
}

func shorter[T any](list []T) []T { return list[:max(len(list)-1, 0)] }
