// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/certwright/certwright/csr"
)

// checkReason asserts that err is a refusal for the reason, or nil if the reason is empty.
func checkReason(t *testing.T, value string, err error, reason string) {
	t.Helper()
	var refusal *csr.Refusal
	switch {
	case reason == "" && err != nil:
		t.Errorf("%q: got error %v, want none", value, err)
	case reason != "" && (!errors.As(err, &refusal) || refusal.Reason != reason):
		t.Errorf("%q: got error %v, want %s", value, err, reason)
	}
}

func TestCheckDNSName(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	longest := strings.Join([]string{label63, label63, label63, strings.Repeat("b", 61)}, ".")
	tests := map[string]string{
		"localhost":                  "",
		"web.shop.svc.cluster.local": "",
		"a":                          "",
		"1and1.example.com":          "",
		"1.2.3.example":              "",
		"0x7f.example":               "",
		"a-b.c--d.example.com":       "",
		"*.example.com":              "",
		"*.web.shop.svc":             "",
		"xn--bcher-kva.example":      "",
		"*.xn--bcher-kva.example":    "",
		label63 + ".example":         "",
		longest:                      "",

		"":                               csr.ReasonDNSNameLength,
		longest + "b":                    csr.ReasonDNSNameLength,
		label63 + "a.example":            csr.ReasonDNSNameLength,
		".":                              csr.ReasonDNSNameTrailingDot,
		"example.com.":                   csr.ReasonDNSNameTrailingDot,
		"example.com..":                  csr.ReasonDNSNameTrailingDot,
		".example.com":                   csr.ReasonDNSNameEmptyLabel,
		"a..b":                           csr.ReasonDNSNameEmptyLabel,
		"*..example":                     csr.ReasonDNSNameEmptyLabel,
		"*":                              csr.ReasonDNSNameWildcard,
		"*.local":                        csr.ReasonDNSNameWildcard,
		"*.*.example.com":                csr.ReasonDNSNameWildcard,
		"w*.example.com":                 csr.ReasonDNSNameWildcard,
		"*w.example.com":                 csr.ReasonDNSNameWildcard,
		"web.*":                          csr.ReasonDNSNameWildcard,
		"web.*.com":                      csr.ReasonDNSNameWildcard,
		"_dmarc.example.com":             csr.ReasonDNSNameCharacter,
		"Example.com":                    csr.ReasonDNSNameCharacter,
		"bücher.example":                 csr.ReasonDNSNameCharacter,
		"web example.com":                csr.ReasonDNSNameCharacter,
		"web\n.example.com":              csr.ReasonDNSNameCharacter,
		"\x00":                           csr.ReasonDNSNameCharacter,
		"example.com:443":                csr.ReasonDNSNameCharacter,
		"https://example.com":            csr.ReasonDNSNameCharacter,
		"example\uff0ecom":               csr.ReasonDNSNameCharacter,
		"-web.example.com":               csr.ReasonDNSNameHyphen,
		"web-.example.com":               csr.ReasonDNSNameHyphen,
		"-":                              csr.ReasonDNSNameHyphen,
		"ab--c.example.com":              csr.ReasonDNSNameHyphen,
		"xn--a":                          csr.ReasonDNSNamePunycode,
		"xn--a.example":                  csr.ReasonDNSNamePunycode,
		"xn--1ch.example":                csr.ReasonDNSNamePunycode,
		"xn--zzzzzz99999.example":        csr.ReasonDNSNamePunycode,
		"example.xn--zzzzzz99999":        csr.ReasonDNSNamePunycode,
		"10.0.0.1":                       csr.ReasonDNSNameIsIP,
		"::1":                            csr.ReasonDNSNameIsIP,
		"fe80::1%eth0":                   csr.ReasonDNSNameIsIP,
		"010.0.0.1":                      csr.ReasonDNSNameIsIP,
		"10.1":                           csr.ReasonDNSNameIsIP,
		"web.123":                        csr.ReasonDNSNameIsIP,
		"2130706433":                     csr.ReasonDNSNameIsIP,
		"0x7f000001":                     csr.ReasonDNSNameIsIP,
		"web.0x":                         csr.ReasonDNSNameIsIP,
		"*.0.0.1":                        csr.ReasonDNSNameIsIP,
		strings.Repeat("a.", 1<<20) + "": csr.ReasonDNSNameLength,
	}
	for name, reason := range tests {
		checkReason(t, name[:min(len(name), 80)], csr.CheckDNSName(name), reason)
	}
}

func TestCheckEmailAddress(t *testing.T) {
	for _, address := range []string{"ops@example.com", "First.Last+tag@example.com", "o'neil@xn--bcher-kva.example", strings.Repeat("a", 64) + "@a"} {
		checkReason(t, address, csr.CheckEmailAddress(address), "")
	}
	for _, address := range []string{
		"", "@", "ops", "ops@", "@example.com", "a@b@example.com", "ops@example.com.", "ops@*.example.com", "ops@10.0.0.1", "ops@[10.0.0.1]",
		"Ops <ops@example.com>", "<ops@example.com>", `"ops"@example.com`, `"a@b"@example.com`, "ops(comment)@example.com", ".ops@example.com",
		"ops.@example.com", "o..ps@example.com", "ops @example.com", "ops@example.com\x00", "öps@example.com", "ops@EXAMPLE.com",
		"a,b@example.com", "mailto:ops@example.com", strings.Repeat("a", 65) + "@example.com",
	} {
		checkReason(t, address, csr.CheckEmailAddress(address), csr.ReasonEmail)
	}
}

func TestParseURI(t *testing.T) {
	good := []string{
		"https://example.com", "https://example.com/", "https://example.com/a/b", "https://example.com:8443/a", "https://192.0.2.1/a",
		"https://[2001:db8::1]/a", "https://[2001:db8::1]:8443", "https://example.com/a?b=c&d=e", "https://example.com/a%20b/%C3%BC",
		"spiffe://example.com", "spiffe://example.com/ns/shop/sa/web", "spiffe://example.com/A.b-c_d/...", "spiffe://a_b.c/d", "spiffe://1.2.3.4/a",
		"spiffe://example.com/" + strings.Repeat("a", 2048-len("spiffe://example.com/")),
		"https://example.com/" + strings.Repeat("a", 2048-len("https://example.com/")),
		"https://example.com:1", "https://example.com:65535", "spiffe://" + strings.Repeat("a", 255) + "/a",
	}
	for _, raw := range good {
		u, err := csr.ParseURI(raw)
		checkReason(t, raw, err, "")
		if err == nil && u.String() != raw {
			t.Errorf("%q: got %q", raw, u)
		}
	}
	bad := []string{
		"", "/", "example.com", "//example.com/", "https:", "https:/a", "https:///a", "https:a", "mailto:ops@example.com", "urn:uuid:7", "file:///etc/passwd",
		"https://root@example.com/", "https://root:x@example.com/", "https://@example.com/", "https://example.com/#a", "https://example.com/#",
		"HTTPS://example.com/", "https://EXAMPLE.com/", "https://example.com./", "https://*.example.com/", "https://a_b.example.com/",
		"https://example.com:/", "https://example.com:0/", "https://example.com:65536/", "https://example.com:0443/", "https://example.com:http/",
		"https://127.1/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1%25eth0]/", "https://[2001:DB8::1]/", "https://[2001:db8::1/", "https://2001:db8::1/", "https://[10.0.0.1]/",
		"https://example.com//", "https://example.com//a", "https://example.com/a/", "https://example.com/a//b", "https://example.com/./a", "https://example.com/a/..",
		"https://example.com/a%2Fb", "https://example.com/a%5Cb", "https://example.com/%2E%2E/a", "https://example.com/%41", "https://example.com/%c3%bc",
		"https://example.com/%00", "https://example.com/%0A", "https://example.com/%FF", "https://example.com/%E2%80%AE", "https://example.com/%2", "https://example.com/%zz",
		"https://example.com/?a=%2", "https://example.com/?a=%00", "https://example.com/?a=%2F", "https://example.com/a b", "https://example.com/\x00", "https://example.com/\n",
		"https://example.com/ü", "https://ex\u202eample.com/", `https://example.com\a`, `https://example.com/a\b`, "https://example.com/" + strings.Repeat("a", 2048),
		"https://example.com/" + strings.Repeat("a", 2049-len("https://example.com/")), "https://example.com/?a b", "https://example.com/?a=ü", "https://example.com/a%2Db",
	}
	for _, raw := range bad {
		_, err := csr.ParseURI(raw)
		checkReason(t, raw, err, csr.ReasonURI)
	}
	badIDs := []string{
		"spiffe://", "spiffe:///a", "spiffe:a", "spiffe://example.com/", "spiffe://example.com/a/", "spiffe://example.com//a", "spiffe://example.com/./a",
		"spiffe://example.com/a/..", "spiffe://example.com:443/a", "spiffe://root@example.com/a", "spiffe://example.com/a?b", "spiffe://example.com/a?",
		"spiffe://example.com/a#b", "spiffe://example.com/a#", "spiffe://EXAMPLE.com/a", "SPIFFE://example.com/a", "Spiffe://example.com/a", "spiffe://example.com/%61", "spiffe://example.com/a%2Fb",
		"spiffe://exa%6dple.com/a", "spiffe://example.com/a:b", "spiffe://example.com/a*", "spiffe://*.example.com/a", "spiffe://[2001:db8::1]/a",
		"spiffe://" + strings.Repeat("a", 256) + "/a", "spiffe://example.com./a", "spiffe://.example.com/a", "spiffe://example..com/a", "spiffe://./a",
	}
	for _, raw := range badIDs {
		u, err := csr.ParseURI(raw)
		if err == nil {
			t.Errorf("%q: accepted as %q", raw, u)
		} else if !strings.Contains(raw, "%6d") { // url.Parse itself refuses that one
			checkReason(t, raw, err, csr.ReasonSPIFFEID)
		}
	}
}

func TestRefusalsOfNamesAreSafeToShow(t *testing.T) {
	for _, value := range []string{strings.Repeat("\u202e\x1b[2J", 400), strings.Repeat("%", 10000), "a@" + strings.Repeat("\x00", 9000), "https://\x1b/"} {
		_, uriErr := csr.ParseURI(value)
		for _, err := range []error{uriErr, csr.CheckDNSName(value), csr.CheckEmailAddress(value)} {
			if err == nil {
				t.Fatalf("%q is accepted", value[:10])
			}
			text := err.Error()
			if len(text) > 700 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("message is long or unsafe: %q", text)
			}
		}
	}
}
