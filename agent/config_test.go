// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/credential"
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
	"trustBundleFiles": ["/var/run/secrets/certwright.dev/trust/ca.crt"],
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
		Directory: "/var/run/secrets/certwright.dev/tls", TrustBundleFiles: []string{"/var/run/secrets/certwright.dev/trust/ca.crt"}, Once: true,
	}
	if !reflect.DeepEqual(config, want) {
		t.Errorf("got %+v\nwant %+v", config, want)
	}
	again, err := ParseConfig(agenttest.Must(json.Marshal(config))(t))
	if err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("after writing and reading it again: %+v, error %v", again, err)
	}
}

func TestParseConfigDefaults(t *testing.T) {
	config, err := ParseConfig([]byte(`{"signerName":"example.com/x","dnsNames":["a"],"directory":"/tls","trustBundleFiles":["/trust/ca.crt"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(config.Duration) != 24*time.Hour || config.KeyAlgorithm != "ECDSA-P256" || !reflect.DeepEqual(config.Usages, DefaultUsages()) {
		t.Errorf("defaults: %+v", config)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	const file = `["/var/run/secrets/certwright.dev/trust/ca.crt"]`
	for name, test := range map[string]struct{ old, new, want string }{
		"no bundle":           {file, `[]`, `trustBundleFiles: "0 files" is not allowed, use 1 to 16`},
		"bundles null":        {file, `null`, "trustBundleFiles"},
		"17 bundles":          {file, `["/1","/2","/3","/4","/5","/6","/7","/8","/9","/a","/b","/c","/d","/e","/f","/g","/h"]`, `"17 files"`},
		"a bundle twice":      {file, `["/a", "/b", "/a"]`, `trustBundleFiles[2]: "/a" is not allowed, use each file only once`},
		"bundle relative":     {file, `["/a", "b"]`, `trustBundleFiles[1]: "b"`},
		"format unknown":      {`"once": true`, `"formats": ["PEM", "pkcs12"]`, `formats[1]: "pkcs12" is not allowed, use one of PKCS12, JKS, PEM`},
		"format twice":        {`"once": true`, `"formats": ["JKS", "JKS"]`, "formats[1]"},
		"renew file relative": {`"once": true`, `"renewFile": "../renew"`, "renewFile"},
		"reload empty":        {`"once": true`, `"reload": {}`, "reload: is empty"},
		"reload elsewhere":    {`"once": true`, `"reload": {"url": "http://example.com:1/"}`, "reload.url"},
		"reload unknown":      {`"once": true`, `"reload": {"shell": "rm"}`, `unknown field "shell"`},
		"reload once":         {`"once": true`, `"once": true, "reload": {"process": "a", "signal": "HUP"}`, "once: is not allowed together with reload"},
		"socket once":         {`"once": true`, `"once": true, "spiffeSocket": "/run/a.sock"`, "once: is not allowed"},
		"socket long":         {`"once": true`, `"spiffeSocket": "/` + strings.Repeat("x", 103) + `"`, "at most 103 bytes"},
		"socket relative":     {`"once": true`, `"spiffeSocket": "a.sock"`, "spiffeSocket"},
		"socket without ID":   {`"once": true`, `"spiffeSocket": "/a.sock", "uris": []`, "exactly one URI"},
		"socket, two IDs":     {`"once": true`, `"spiffeSocket": "/a.sock", "uris": ["spiffe://a/b", "spiffe://a/c"]`, "exactly one URI"},
		"socket, web URI":     {`"once": true`, `"spiffeSocket": "/a.sock", "uris": ["https://a/b"]`, "starts with spiffe://"},
		"metrics no port":     {`"once": true`, `"metricsAddress": "127.0.0.1"`, "metricsAddress"},
		"metrics port 0":      {`"once": true`, `"metricsAddress": ":0"`, "metricsAddress"},
		"metrics port large":  {`"once": true`, `"metricsAddress": ":65536"`, "metricsAddress"},
		"metrics name":        {`"once": true`, `"metricsAddress": "localhost:80"`, "metricsAddress"},
		"trust only":          {`"once": true`, `"trustOnly": true`, "signerName: is not allowed together with trustOnly"},
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
		"bundle root":         {`"/var/run/secrets/certwright.dev/trust/ca.crt"`, `"/"`, "trustBundleFiles"},
		"bundle missing":      {`"/var/run/secrets/certwright.dev/trust/ca.crt"`, `""`, "trustBundleFiles"},
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

func TestParseConfigTakes(t *testing.T) {
	for name, text := range map[string]string{
		"everything": strings.Replace(goodConfig, `"once": true`, `"publicRoots": true, "formats": ["PKCS12", "JKS", "PEM"], "renewFile": "/renew/renew",
			"reload": {"process": "nginx", "signal": "HUP", "url": "http://localhost:8080/reload", "command": ["/reload/now"]},
			"spiffeSocket": "/run/certwright/spiffe/agent.sock", "metricsAddress": ":9402"`, 1),
		"two bundles": strings.Replace(goodConfig, `/ca.crt"]`, `/ca.crt", "/var/run/secrets/certwright.dev/trust/ca-1.crt"]`, 1),
		"trust only":  `{"trustOnly": true, "directory": "/tls", "trustBundleFiles": ["/a", "/b"], "publicRoots": true, "formats": ["JKS"], "metricsAddress": "[::1]:9402"}`,
		"trust once":  `{"trustOnly": true, "once": true, "directory": "/tls", "trustBundleFiles": ["/a"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			config, err := ParseConfig([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseConfig(agenttest.Must(json.Marshal(config))(t))
			if err != nil || !reflect.DeepEqual(again, config) {
				t.Errorf("after writing and reading it again: %+v, error %v", again, err)
			}
			if config.TrustOnly && (config.Usages != nil || config.Duration != 0 || config.KeyAlgorithm != "") {
				t.Errorf("defaults of a certificate that is not wanted: %+v", config)
			}
		})
	}
}

func TestTrustOnlyTakesNothingAboutACertificate(t *testing.T) {
	base := Config{TrustOnly: true, Directory: "/tls", TrustBundleFiles: []string{"/a"}}
	if err := base.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"signerName":   func(c *Config) { c.SignerName = "example.com/x" },
		"dnsNames":     func(c *Config) { c.DNSNames = []string{"a"} },
		"uris":         func(c *Config) { c.URIs = []string{"spiffe://a/b"} },
		"ipAddresses":  func(c *Config) { c.IPAddresses = []string{"pod"} },
		"usages":       func(c *Config) { c.Usages = DefaultUsages() },
		"duration":     func(c *Config) { c.Duration = DefaultDuration },
		"keyAlgorithm": func(c *Config) { c.KeyAlgorithm = DefaultKeyAlgorithm },
		"renewFile":    func(c *Config) { c.RenewFile = "/renew" },
		"spiffeSocket": func(c *Config) { c.SPIFFESocket = "/run/a.sock" },
		"formats":      func(c *Config) { c.Formats = []string{FormatPEM} },
	} {
		config := base
		change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), field+": is not allowed together with trustOnly") {
			t.Errorf("%s: error %v", field, err)
		}
	}
}

// What does not change what is asked for does not change the fingerprint, so that no new certificate is asked for.
func TestFingerprintIsOfWhatIsAskedFor(t *testing.T) {
	config := agenttest.Must(ParseConfig([]byte(goodConfig)))(t)
	n := agenttest.Must(config.Names("198.18.0.7"))(t)
	want := config.Fingerprint(n)
	config.Directory, config.TrustBundleFiles, config.Once = "/other", []string{"/other"}, false
	config.PublicRoots, config.Formats, config.RenewFile = true, []string{FormatJKS}, "/renew"
	config.Reload, config.SPIFFESocket, config.MetricsAddress = &Reload{Process: "a", Signal: "HUP"}, "/run/a.sock", ":9402"
	if config.Fingerprint(n) != want {
		t.Error("the fingerprint changed")
	}
}

func TestValidateNamesEverythingAtOnce(t *testing.T) {
	err := Config{}.Validate()
	var violations ConfigError
	if !errors.As(err, &violations) || len(violations) != 4 {
		t.Errorf("got %d violations (%v), want signerName, names, directory and trustBundleFiles", len(violations), err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte(`{"trustOnly":true,"directory":"/t","trustBundleFiles":["/b"],"reload":{"url":"http://[::1]:1"}}`))
	f.Add([]byte(`{"signerName":"example.com/x","dnsNames":["a"],"directory":"/t","trustBundleFiles":["/b"]}`))
	key := agenttest.Must(credential.GenerateKey("ECDSA-P256"))(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := ParseConfig(data)
		if err != nil {
			return
		}
		written := agenttest.Must(json.Marshal(config))(t)
		again, err := ParseConfig(written)
		if err != nil || !bytes.Equal(written, agenttest.Must(json.Marshal(again))(t)) {
			t.Errorf("%s came back as %+v, error %v", written, again, err)
		}
		n, err := config.Names("198.18.0.1")
		if err != nil {
			t.Fatalf("valid config without names: %v", err)
		}
		for _, file := range append([]string{config.Directory}, config.TrustBundleFiles...) {
			if !filepath.IsAbs(file) {
				t.Errorf("took the file %q", file)
			}
		}
		if _, err := credential.RequestPEM(key, n); err != nil {
			t.Errorf("valid config without request: %v", err)
		}
	})
}

func TestNames(t *testing.T) {
	for name, test := range map[string]struct {
		ips     []string
		podIPs  string
		want    []string
		problem string
	}{
		"literal only":        {ips: []string{"2001:db8::7", "198.18.0.7"}, want: []string{"IP:198.18.0.7", "IP:2001:db8::7"}},
		"pod, both families":  {ips: []string{"pod"}, podIPs: "198.18.0.7,2001:db8::7", want: []string{"IP:198.18.0.7", "IP:2001:db8::7"}},
		"pod and literal":     {ips: []string{"198.18.0.7", "pod"}, podIPs: "198.18.0.7", want: []string{"IP:198.18.0.7"}},
		"mapped is IPv4":      {ips: []string{"::ffff:198.18.0.7"}, want: []string{"IP:198.18.0.7"}},
		"pod without its IPs": {ips: []string{"pod"}, problem: "CERTWRIGHT_POD_IPS"},
		"pod with garbage":    {ips: []string{"pod"}, podIPs: "198.18.0.7,x", problem: "status.podIPs"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := Config{IPAddresses: test.ips}.Names(test.podIPs)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want %q", err, test.problem)
				}
				return
			}
			if err != nil || !slices.Equal(n.Strings(), test.want) {
				t.Errorf("got %q, error %v, want %q", n.Strings(), err, test.want)
			}
		})
	}
}

func TestFingerprintIgnoresOrderOnly(t *testing.T) {
	config := Config{SignerName: "example.com/x", DNSNames: []string{"a", "b"}, Usages: []string{"u", "v"}}
	print := func(c Config) string { return c.Fingerprint(agenttest.Must(c.Names(""))(t)) }
	other := config
	other.DNSNames, other.Usages = []string{"b", "a", "b"}, []string{"v", "u"}
	if print(config) != print(other) {
		t.Error("the order of names or usages changes the fingerprint")
	}
	other.DNSNames = []string{"a"}
	if print(config) == print(other) {
		t.Error("a name less has the same fingerprint")
	}
}
