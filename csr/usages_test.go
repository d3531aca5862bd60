// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"crypto/x509"
	"slices"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

func TestX509Usages(t *testing.T) {
	tests := []struct {
		usage certificatesv1.KeyUsage
		bits  x509.KeyUsage
		ext   []x509.ExtKeyUsage
	}{
		{"signing", x509.KeyUsageDigitalSignature, nil},
		{"digital signature", x509.KeyUsageDigitalSignature, nil},
		{"content commitment", x509.KeyUsageContentCommitment, nil},
		{"key encipherment", x509.KeyUsageKeyEncipherment, nil},
		{"key agreement", x509.KeyUsageKeyAgreement, nil},
		{"data encipherment", x509.KeyUsageDataEncipherment, nil},
		{"cert sign", x509.KeyUsageCertSign, nil},
		{"crl sign", x509.KeyUsageCRLSign, nil},
		{"encipher only", x509.KeyUsageEncipherOnly, nil},
		{"decipher only", x509.KeyUsageDecipherOnly, nil},
		{"any", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageAny}},
		{"server auth", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		{"client auth", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		{"code signing", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}},
		{"email protection", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}},
		{"s/mime", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}},
		{"ipsec end system", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageIPSECEndSystem}},
		{"ipsec tunnel", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageIPSECTunnel}},
		{"ipsec user", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageIPSECUser}},
		{"timestamping", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}},
		{"ocsp signing", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}},
		{"microsoft sgc", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageMicrosoftServerGatedCrypto}},
		{"netscape sgc", 0, []x509.ExtKeyUsage{x509.ExtKeyUsageNetscapeServerGatedCrypto}},
	}
	for _, tt := range tests {
		bits, ext, err := csr.X509Usages([]certificatesv1.KeyUsage{tt.usage})
		if err != nil || bits != tt.bits || !slices.Equal(ext, tt.ext) {
			t.Errorf("%s: got %v, %v, %v; want %v, %v", tt.usage, bits, ext, err, tt.bits, tt.ext)
		}
	}
	bits, ext, err := csr.X509Usages([]certificatesv1.KeyUsage{"server auth", "signing", "s/mime", "client auth", "email protection", "key agreement"})
	if want := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageClientAuth}; err != nil ||
		bits != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement || !slices.Equal(ext, want) {
		t.Errorf("together: got %v, %v, %v", bits, ext, err)
	}
	for _, usage := range []certificatesv1.KeyUsage{"", "Server Auth", "serverAuth", "server auth ", "1.3.6.1.5.5.7.3.1"} {
		_, _, err := csr.X509Usages([]certificatesv1.KeyUsage{"any", usage})
		checkReason(t, string(usage), err, csr.ReasonUnknownUsage)
	}
}

// TestParseAcceptsUsageExtensionsWithinSpec reads extensions that ask for what spec.usages lists, or for less.
func TestParseAcceptsUsageExtensionsWithinSpec(t *testing.T) {
	all := []byte{7, 0xff, 0x80}
	tests := map[string]struct {
		usages     []certificatesv1.KeyUsage
		extensions [][]byte
		reason     string
	}{
		"equal":                             {[]certificatesv1.KeyUsage{"digital signature", "server auth"}, [][]byte{extension(oidKU, derTrue, tlv(tagBitString, []byte{7, 0x80})), extension(oidEKU, sequence(oidServerAuth))}, ""},
		"less":                              {[]certificatesv1.KeyUsage{"signing", "key encipherment", "server auth", "code signing"}, [][]byte{extension(oidKU, tlv(tagBitString, []byte{5, 0x20})), extension(oidEKU, sequence(oidCodeSigning))}, ""},
		"all nine bits":                     {[]certificatesv1.KeyUsage{"digital signature", "content commitment", "key encipherment", "data encipherment", "key agreement", "cert sign", "crl sign", "encipher only", "decipher only"}, [][]byte{extension(oidKU, tlv(tagBitString, all))}, ""},
		"all nine bits without one":         {[]certificatesv1.KeyUsage{"digital signature", "content commitment", "key encipherment", "data encipherment", "key agreement", "cert sign", "crl sign", "encipher only"}, [][]byte{extension(oidKU, tlv(tagBitString, all))}, csr.ReasonKeyUsage},
		"any":                               {[]certificatesv1.KeyUsage{"any"}, [][]byte{extension(oidEKU, sequence(oid(2, 5, 29, 37, 0)))}, ""},
		"any does not stand for all others": {[]certificatesv1.KeyUsage{"any"}, [][]byte{extension(oidEKU, sequence(oidServerAuth))}, csr.ReasonExtKeyUsage},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			obj := object(raw{attributes: extensions(tt.extensions...)}.pem())
			obj.Spec.Usages = tt.usages
			_, err := csr.Parse(obj)
			checkReason(t, name, err, tt.reason)
		})
	}
}

func TestUsageNamesIsTheOppositeOfX509Usages(t *testing.T) {
	all := csr.AllUsages()
	bits, extended, err := csr.X509Usages(all)
	if err != nil || bits != 1<<9-1 || len(extended) != int(x509.ExtKeyUsageNetscapeServerGatedCrypto)+1 { // RFC 5280 has nine bits
		t.Fatalf("all usages are %q: bits %b, extended %v, error %v", all, bits, extended, err)
	}
	for i := range all {
		for _, usages := range [][]certificatesv1.KeyUsage{all[i : i+1], all[:i], all[i:]} {
			bits, extended, err := csr.X509Usages(usages)
			if err != nil {
				t.Fatal(err)
			}
			if got := csr.UsageNames(bits, extended); !slices.Equal(got, usages) {
				t.Errorf("the names of %q are %q", usages, got)
			}
		}
	}
}
