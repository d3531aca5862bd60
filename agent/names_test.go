// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestResolveNames(t *testing.T) {
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
			n, err := resolveNames(Config{IPAddresses: test.ips}, test.podIPs)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want %q", err, test.problem)
				}
				return
			}
			if err != nil || !slices.Equal(n.strings(), test.want) {
				t.Errorf("got %q, error %v, want %q", n.strings(), err, test.want)
			}
		})
	}
}

func TestFingerprintIgnoresOrderOnly(t *testing.T) {
	config := Config{SignerName: "example.com/x", DNSNames: []string{"a", "b"}, Usages: []string{"u", "v"}}
	print := func(c Config) string { return c.fingerprint(must(resolveNames(c, ""))(t)) }
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

func TestEveryKeyAlgorithm(t *testing.T) {
	types := map[string]x509.PublicKeyAlgorithm{"EC": x509.ECDSA, "Ed": x509.Ed25519, "RS": x509.RSA}
	for algorithm := range keyAlgorithms {
		t.Run(algorithm, func(t *testing.T) {
			key := must(generateKey(algorithm))(t)
			block, rest := pem.Decode(must(requestPEM(key, names{dns: []string{"a.b"}}))(t))
			if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) != 0 {
				t.Fatal("not one PEM block CERTIFICATE REQUEST")
			}
			csr := must(x509.ParseCertificateRequest(block.Bytes))(t)
			if err := csr.CheckSignature(); err != nil || csr.PublicKeyAlgorithm != types[algorithm[:2]] {
				t.Errorf("%v key, signature: %v", csr.PublicKeyAlgorithm, err)
			}
		})
	}
	if _, err := generateKey("DSA"); err == nil {
		t.Error("made a DSA key")
	}
}

func TestRequestHoldsNamesAndNothingElse(t *testing.T) {
	config := Config{
		DNSNames: []string{"cart.shop.svc"}, URIs: []string{"spiffe://example.org/ns/shop/sa/cart"},
		IPAddresses: []string{"198.18.0.7", "2001:db8::7"},
	}
	n := must(resolveNames(config, ""))(t)
	block, _ := pem.Decode(must(requestPEM(must(generateKey("ECDSA-P256"))(t), n))(t))
	csr := must(x509.ParseCertificateRequest(block.Bytes))(t)
	if missing := n.missingFrom(&x509.Certificate{DNSNames: csr.DNSNames, URIs: csr.URIs, IPAddresses: csr.IPAddresses}); len(missing) > 0 {
		t.Errorf("lacks %q", missing)
	}
	if !bytes.Equal(csr.RawSubject, []byte{0x30, 0}) {
		t.Errorf("subject %q, want none", csr.Subject)
	}
	if len(csr.Extensions) != 1 || csr.Extensions[0].Id.String() != "2.5.29.17" {
		t.Errorf("extensions %v, want subjectAltName only", csr.Extensions)
	}
	var info struct {
		Version      int
		Subject, Key asn1.RawValue
		Attributes   []struct {
			ID     asn1.ObjectIdentifier
			Values asn1.RawValue
		} `asn1:"tag:0,set"`
	}
	if _, err := asn1.Unmarshal(csr.RawTBSCertificateRequest, &info); err != nil {
		t.Fatal(err)
	}
	if len(info.Attributes) != 1 || info.Attributes[0].ID.String() != "1.2.840.113549.1.9.14" {
		t.Errorf("attributes %v, want extensionRequest only", info.Attributes)
	}
}

func TestRandomName(t *testing.T) {
	valid := regexp.MustCompile(`^certwright-[a-z2-7]{26}$`)
	seen := make(map[string]bool)
	for range 1000 {
		name := randomName()
		if !valid.MatchString(name) || seen[name] {
			t.Fatalf("name %q is not valid or came twice", name)
		}
		seen[name] = true
	}
}
