// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// object returns what the API server would hold for a request that a service account in a pod made.
func object(request []byte) *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "web-abcde", UID: "5f5c0c9e-1b7f-4f4e-8f3e-1f3f0f5b7f10"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:           request,
			SignerName:        "example.com/internal",
			ExpirationSeconds: ptr.To[int32](3600),
			Usages:            []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth},
			Username:          "system:serviceaccount:shop:web",
			UID:               "7a1f",
			Groups:            []string{"system:serviceaccounts", "system:authenticated"},
			Extra:             map[string]certificatesv1.ExtraValue{"authentication.kubernetes.io/pod-name": {"web-0"}},
		},
	}
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// testKey signs every request that needs no other key. Ed25519 keeps the tests and the fuzzer fast.
var testKey = ed25519.NewKeyFromSeed([]byte("a fixed seed makes fixed inputs!"))

func toPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func create(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return toPEM(der)
}

// DER by hand, to write what encoders refuse to.

const (
	tagInteger   = 0x02
	tagBitString = 0x03
	tagOctets    = 0x04
	tagUTF8      = 0x0c
	tagPrintable = 0x13
	tagIA5       = 0x16
	tagBMP       = 0x1e
	tagSequence  = 0x30
	tagSet       = 0x31
)

func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func tlv(tag byte, contents ...[]byte) []byte {
	body := join(contents...)
	head := []byte{tag, byte(len(body))}
	switch n := len(body); {
	case n > 0xffff:
		head = []byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}
	case n > 0xff:
		head = []byte{tag, 0x82, byte(n >> 8), byte(n)}
	case n > 0x7f:
		head = []byte{tag, 0x81, byte(n)}
	}
	return append(head, body...)
}

func sequence(contents ...[]byte) []byte { return tlv(tagSequence, contents...) }

func oid(arcs ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(err)
	}
	return der
}

var (
	oidExtensionRequest  = oid(1, 2, 840, 113549, 1, 9, 14)
	oidChallengePassword = oid(1, 2, 840, 113549, 1, 9, 7)
	oidSAN               = oid(2, 5, 29, 17)
	oidKU                = oid(2, 5, 29, 15)
	oidEKU               = oid(2, 5, 29, 37)
	oidBC                = oid(2, 5, 29, 19)
	oidCN                = oid(2, 5, 4, 3)
	oidO                 = oid(2, 5, 4, 10)
	oidServerAuth        = oid(1, 3, 6, 1, 5, 5, 7, 3, 1)
	oidCodeSigning       = oid(1, 3, 6, 1, 5, 5, 7, 3, 3)

	derTrue  = []byte{0x01, 0x01, 0xff}
	derFalse = []byte{0x01, 0x01, 0x00}
	derNull  = []byte{0x05, 0x00}
)

// raw is a PKCS #10 request in parts. A nil part becomes what a valid request of testKey has there.
type raw struct {
	version, subject, publicKey, attributes, algorithm, signature []byte
	// What follows the attributes, the signature and the whole request.
	afterInfo, afterSignature, after []byte
}

func (r raw) der() []byte {
	or := func(part, otherwise []byte) []byte {
		if part != nil {
			return part
		}
		return otherwise
	}
	ed25519ID := sequence(oid(1, 3, 101, 112))
	public := testKey.Public().(ed25519.PublicKey)
	info := sequence(
		or(r.version, []byte{tagInteger, 1, 0}),
		or(r.subject, sequence()),
		or(r.publicKey, sequence(ed25519ID, tlv(tagBitString, []byte{0}, public))),
		or(r.attributes, tlv(0xa0)),
		r.afterInfo,
	)
	signature := or(r.signature, tlv(tagBitString, []byte{0}, ed25519.Sign(testKey, info)))
	return append(sequence(info, or(r.algorithm, ed25519ID), signature, r.afterSignature), r.after...)
}

func (r raw) pem() []byte { return toPEM(r.der()) }

// attributes returns an attribute set with the given attributes.
func attributes(list ...[]byte) []byte { return tlv(0xa0, list...) }

// extensions returns an attribute set that requests the given extensions.
func extensions(list ...[]byte) []byte {
	return attributes(sequence(oidExtensionRequest, tlv(tagSet, sequence(list...))))
}

// extension returns one extension; the last part is its value, those between are written as they are.
func extension(id []byte, parts ...[]byte) []byte {
	last := len(parts) - 1
	return sequence(id, join(parts[:last]...), tlv(tagOctets, parts[last]))
}

// withSAN returns a request for names, each a GeneralName in DER.
func withSAN(names ...[]byte) []byte {
	return raw{attributes: extensions(extension(oidSAN, sequence(names...)))}.pem()
}

func dnsSAN(name string) []byte   { return withSAN(tlv(0x82, []byte(name))) }
func uriSAN(name string) []byte   { return withSAN(tlv(0x86, []byte(name))) }
func emailSAN(name string) []byte { return withSAN(tlv(0x81, []byte(name))) }

// withSubject returns a request for a name of RDNs, each given as the contents of its set.
func withSubject(rdns ...[]byte) []byte {
	var name [][]byte
	for _, rdn := range rdns {
		name = append(name, tlv(tagSet, rdn))
	}
	return raw{subject: sequence(name...)}.pem()
}

func attribute(id []byte, tag byte, value string) []byte {
	return sequence(id, tlv(tag, []byte(value)))
}
