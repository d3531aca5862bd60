// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"net/netip"
	"testing"

	"github.com/certwright/certwright/agent/agenttest"
)

func TestEveryKeyAlgorithm(t *testing.T) {
	types := map[string]x509.PublicKeyAlgorithm{"EC": x509.ECDSA, "Ed": x509.Ed25519, "RS": x509.RSA}
	for algorithm := range keyAlgorithms {
		t.Run(algorithm, func(t *testing.T) {
			key := agenttest.Must(GenerateKey(algorithm))(t)
			block, rest := pem.Decode(agenttest.Must(RequestPEM(key, Names{DNS: []string{"a.b"}}))(t))
			if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) != 0 {
				t.Fatal("not one PEM block CERTIFICATE REQUEST")
			}
			csr := agenttest.Must(x509.ParseCertificateRequest(block.Bytes))(t)
			if err := csr.CheckSignature(); err != nil || csr.PublicKeyAlgorithm != types[algorithm[:2]] {
				t.Errorf("%v key, signature: %v", csr.PublicKeyAlgorithm, err)
			}
		})
	}
	if _, err := GenerateKey("DSA"); err == nil {
		t.Error("made a DSA key")
	}
}

func TestRequestHoldsNamesAndNothingElse(t *testing.T) {
	n := NewNames([]string{"cart.shop.svc"}, []string{"spiffe://example.org/ns/shop/sa/cart"},
		[]netip.Addr{netip.MustParseAddr("198.18.0.7"), netip.MustParseAddr("2001:db8::7")})
	block, _ := pem.Decode(agenttest.Must(RequestPEM(agenttest.Must(GenerateKey("ECDSA-P256"))(t), n))(t))
	csr := agenttest.Must(x509.ParseCertificateRequest(block.Bytes))(t)
	if missing := n.MissingFrom(&x509.Certificate{DNSNames: csr.DNSNames, URIs: csr.URIs, IPAddresses: csr.IPAddresses}); len(missing) > 0 {
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
