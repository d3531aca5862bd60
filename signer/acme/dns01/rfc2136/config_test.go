// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rfc2136

import (
	"net"
	"strings"
	"testing"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/remote"
)

func TestNew(t *testing.T) {
	ref := v1alpha1.SecretKeyRef{Name: "tsig", Key: "key"}
	for title, c := range map[string]struct {
		config v1alpha1.RFC2136
		want   string // the error's start; empty if there is none
	}{
		"host":          {v1alpha1.RFC2136{Server: "ns1.example.com"}, ""},
		"signed":        {v1alpha1.RFC2136{Server: "192.0.2.1:5353", TSIG: &v1alpha1.TSIG{KeyName: "k", Algorithm: "hmac-sha512", SecretRef: ref}}, ""},
		"empty":         {v1alpha1.RFC2136{}, "server: "},
		"key name":      {v1alpha1.RFC2136{Server: "ns1", TSIG: &v1alpha1.TSIG{KeyName: `a\.b`, SecretRef: ref}}, "tsig.keyName: "},
		"algorithm":     {v1alpha1.RFC2136{Server: "ns1", TSIG: &v1alpha1.TSIG{KeyName: "k", Algorithm: "hmac-md5", SecretRef: ref}}, "tsig.algorithm: "},
		"no secret ref": {v1alpha1.RFC2136{Server: "ns1", TSIG: &v1alpha1.TSIG{KeyName: "k"}}, "tsig.secretRef.name: "},
	} {
		t.Run(title, func(t *testing.T) {
			_, err := New(c.config, remote.Secrets{}, clock.RealClock{})
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error %v, want one that begins with %q", err, c.want)
			}
		})
	}
}

func TestParseServer(t *testing.T) {
	for s, want := range map[string]string{
		"ns1.example.com":      "ns1.example.com:53",
		"ns1.example.com.:54":  "ns1.example.com.:54",
		"192.0.2.1":            "192.0.2.1:53",
		"192.0.2.1:5353":       "192.0.2.1:5353",
		"2001:db8::1":          "[2001:db8::1]:53",
		"[2001:db8::1]":        "[2001:db8::1]:53",
		"[2001:db8::1]:5353":   "[2001:db8::1]:5353",
		"":                     "",
		":53":                  "",
		"ns1:0":                "",
		"ns1:65536":            "",
		"ns1:dns":              "",
		"a b:53":               "",
		"ns1.example.com:53:1": "",
		`ns1\.example.com`:     "",
	} {
		if got, err := parseServer(s); got != want || (err == nil) != (want != "") {
			t.Errorf("parseServer(%q) is %q, error %v; want %q", s, got, err, want)
		}
	}
}

// What is taken can be dialled, and means the same when it is read again.
func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"ns1.example.com", "192.0.2.1:53", "[2001:db8::1]:53", "::1", ":", "[]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		address, err := parseServer(s)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "0" {
			t.Fatalf("parseServer(%q) is %q, which is no address: %v", s, address, err)
		}
		if again, err := parseServer(address); err != nil || again != address {
			t.Errorf("parseServer(%q) is %q, and of that %q, %v", s, address, again, err)
		}
	})
}
