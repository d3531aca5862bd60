// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package txt

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestName(t *testing.T) {
	for s, want := range map[string]string{
		"Example.COM":                    "example.com.",
		"_acme-challenge.example.com.":   "_acme-challenge.example.com.",
		"com":                            "com.",
		strings.Repeat("a", 63) + ".com": strings.Repeat("a", 63) + ".com.",
		strings.Repeat("a", 64) + ".com": "",
		strings.Repeat("a.", 126) + "a":  strings.Repeat("a.", 126) + "a.",
		strings.Repeat("a.", 127) + "a":  "",
		"":                               "",
		".":                              "",
		"a..b":                           "",
		"*.example.com":                  "",
		`a\.b.com`:                       "",
		`a\046b.com`:                     "",
		"a b.com":                        "",
		"a\n.com":                        "",
		"-a.com":                         "",
		"a-.com":                         "",
		"bücher.example":                 "",
		"example.com\nserver 192.0.2.1.": "",
	} {
		if got, err := Name(s); got != want || (err == nil) != (want != "") {
			t.Errorf("Name(%q) is %q, error %v; want %q", s, got, err, want)
		}
	}
}

// A name that is taken means the same to a DNS library, and is its own canonical form.
func FuzzName(f *testing.F) {
	for _, s := range []string{"example.com", "_a-b.C.", `a\.b`, "a..b", strings.Repeat("a.", 130), "\u212a.com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := Name(s)
		if err != nil {
			return
		}
		if _, ok := dns.IsDomainName(name); !ok || dns.CanonicalName(name) != name || dns.CountLabel(name) != strings.Count(name, ".") {
			t.Errorf("Name(%q) is %q, which the DNS library reads in another way", s, name)
		}
		if again, err := Name(name); err != nil || again != name {
			t.Errorf("Name(%q) is %q, and of that %q, %v", s, name, again, err)
		}
	})
}

func TestValidate(t *testing.T) {
	value := strings.Repeat("v", 43)
	for title, c := range map[string]struct {
		record Record
		want   string // in the error; empty if there is none
	}{
		"fine":               {Record{"example.com.", "_acme-challenge.example.com.", value}, ""},
		"name of the zone":   {Record{"example.com.", "example.com.", value}, ""},
		"no zone":            {Record{"", "_acme-challenge.example.com.", value}, "zone: "},
		"zone without dot":   {Record{"example.com", "_acme-challenge.example.com.", value}, "zone: "},
		"upper case":         {Record{"example.com.", "_acme-challenge.Example.com.", value}, "fqdn: "},
		"outside":            {Record{"example.com.", "_acme-challenge.example.org.", value}, "is not in the zone"},
		"ends like the zone": {Record{"example.com.", "_acme-challenge.notexample.com.", value}, "is not in the zone"},
		"short":              {Record{"example.com.", "_acme-challenge.example.com.", value[1:]}, "value: "},
		"long":               {Record{"example.com.", "_acme-challenge.example.com.", value + "v"}, "value: "},
		"quotation marks":    {Record{"example.com.", "_acme-challenge.example.com.", `"` + value[2:] + `"`}, "value: "},
		"line":               {Record{"example.com.", "_acme-challenge.example.com.", value[1:] + "\n"}, "value: "},
	} {
		t.Run(title, func(t *testing.T) {
			if err := c.record.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
