// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

const goodConfig = `{
	"signerName": "example.com/internal",
	"dnsNames": ["cart.shop.svc", "*.cart.shop.svc.cluster.local"],
	"uris": ["spiffe://example.org/ns/shop/sa/cart"],
	"ipAddresses": ["198.18.0.7", "2001:db8::7", "pod"],
	"usages": ["digital signature", "server auth"],
	"duration": "90m",
	"keyAlgorithm": "Ed25519",
	"directory": "/var/run/secrets/certwright.dev/tls",
	"trustBundleFile": "/var/run/secrets/certwright.dev/trust/ca.crt",
	"once": true
}`

func TestParseConfig(t *testing.T) {
	config, err := ParseConfig([]byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		SignerName: "example.com/internal", DNSNames: []string{"cart.shop.svc", "*.cart.shop.svc.cluster.local"},
		URIs: []string{"spiffe://example.org/ns/shop/sa/cart"}, IPAddresses: []string{"198.18.0.7", "2001:db8::7", "pod"},
		Usages: []string{"digital signature", "server auth"}, Duration: Duration(90 * time.Minute), KeyAlgorithm: "Ed25519",
		Directory: "/var/run/secrets/certwright.dev/tls", TrustBundleFile: "/var/run/secrets/certwright.dev/trust/ca.crt", Once: true,
	}
	if !reflect.DeepEqual(config, want) {
		t.Errorf("got %+v\nwant %+v", config, want)
	}
	again, err := ParseConfig(must(json.Marshal(config))(t))
	if err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("after writing and reading it again: %+v, error %v", again, err)
	}
}

func TestParseConfigDefaults(t *testing.T) {
	config, err := ParseConfig([]byte(`{"signerName":"example.com/x","dnsNames":["a"],"directory":"/tls","trustBundleFile":"/trust/ca.crt"}`))
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(config.Duration) != 24*time.Hour || config.KeyAlgorithm != "ECDSA-P256" || !reflect.DeepEqual(config.Usages, DefaultUsages()) {
		t.Errorf("defaults: %+v", config)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"not JSON":            {`{`, `[`, "decoding agent config"},
		"unknown field":       {`"once"`, `"onec"`, `unknown field "onec"`},
		"more behind it":      {"\"once\": true\n}", "\"once\": true\n} {}", "exactly one object"},
		"duration a number":   {`"90m"`, `90`, "write a Go duration"},
		"duration no unit":    {`"90m"`, `"90"`, `"90" is not a duration`},
		"duration short":      {`"90m"`, `"9m59s"`, `duration: "9m59s" is not allowed, use whole seconds from 10m`},
		"duration negative":   {`"90m"`, `"-24h"`, "duration"},
		"duration too long":   {`"90m"`, `"600000h"`, "duration"},
		"duration fraction":   {`"90m"`, `"90m0.5s"`, "whole seconds"},
		"signer missing":      {`example.com/internal`, ``, `signerName: "" is not allowed, use domain/name`},
		"signer no path":      {`example.com/internal`, `example.com`, "signerName"},
		"signer no dot":       {`example.com/internal`, `example/internal`, "signerName"},
		"signer two slashes":  {`example.com/internal`, `example.com/a/b`, "signerName"},
		"signer upper case":   {`example.com/internal`, `Example.com/a`, "signerName"},
		"signer of cluster":   {`example.com/internal`, `kubernetes.io/kubelet-serving`, "outside kubernetes.io"},
		"signer reserved":     {`example.com/internal`, `x.kubernetes.io/y`, "outside kubernetes.io"},
		"DNS upper case":      {`"cart.shop.svc"`, `"Cart"`, `dnsNames[0]: "Cart" is not allowed`},
		"DNS trailing dot":    {`"cart.shop.svc"`, `"cart."`, "dnsNames[0]"},
		"DNS inner wildcard":  {`"cart.shop.svc"`, `"a.*.b"`, "dnsNames[0]"},
		"DNS newline":         {`"cart.shop.svc"`, `"cart\n"`, "dnsNames[0]"},
		"URI relative":        {`"spiffe://example.org/ns/shop/sa/cart"`, `"ns/shop"`, `uris[0]: "ns/shop" is not allowed`},
		"URI no host":         {`"spiffe://example.org/ns/shop/sa/cart"`, `"spiffe:/x"`, "uris[0]"},
		"URI not ASCII":       {`"spiffe://example.org/ns/shop/sa/cart"`, `"spiffe://exämple.org/x"`, "uris[0]"},
		"URI space":           {`"spiffe://example.org/ns/shop/sa/cart"`, `"spiffe://example.org/x y"`, "uris[0]"},
		"IP with zone":        {`"198.18.0.7"`, `"fe80::1%eth0"`, "ipAddresses[0]"},
		"IP range":            {`"198.18.0.7"`, `"198.18.0.0/16"`, "ipAddresses[0]"},
		"usage unknown":       {`"server auth"`, `"ServerAuth"`, `usages[1]: "ServerAuth" is not allowed, use one of signing`},
		"usage twice":         {`"server auth"`, `"digital signature"`, "usages[1]"},
		"algorithm unknown":   {`"Ed25519"`, `"RSA-1024"`, `keyAlgorithm: "RSA-1024" is not allowed, use one of ECDSA-P256`},
		"directory relative":  {`"/var/run/secrets/certwright.dev/tls"`, `"tls"`, `directory: "tls"`},
		"directory not clean": {`"/var/run/secrets/certwright.dev/tls"`, `"/var/../etc"`, "directory"},
		"directory root":      {`"/var/run/secrets/certwright.dev/tls"`, `"/"`, "directory"},
		"bundle root":         {`"/var/run/secrets/certwright.dev/trust/ca.crt"`, `"/"`, "trustBundleFile"},
		"bundle missing":      {`"/var/run/secrets/certwright.dev/trust/ca.crt"`, `""`, "trustBundleFile"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(goodConfig, test.old, test.new, 1)
			if text == goodConfig {
				t.Fatal("the case changes nothing")
			}
			if _, err := ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestValidateNamesEverythingAtOnce(t *testing.T) {
	err := Config{}.Validate()
	var violations ConfigError
	if !errors.As(err, &violations) || len(violations) != 4 {
		t.Errorf("got %d violations (%v), want signerName, names, directory and trustBundleFile", len(violations), err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte(`{"signerName":"example.com/x","dnsNames":["a"],"directory":"/t","trustBundleFile":"/b"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := ParseConfig(data)
		if err != nil {
			return
		}
		written := must(json.Marshal(config))(t)
		again, err := ParseConfig(written)
		if err != nil || !bytes.Equal(written, must(json.Marshal(again))(t)) {
			t.Errorf("%s came back as %+v, error %v", written, again, err)
		}
		n, err := resolveNames(config, "198.18.0.1")
		if err != nil {
			t.Fatalf("valid config without names: %v", err)
		}
		if _, err := n.template(); err != nil {
			t.Errorf("valid config without request: %v", err)
		}
	})
}
