// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

func mustURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func mustKey[K any](t testing.TB) func(K, error) K {
	return func(key K, err error) K {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
}

// names are the parts of a Request that come from names in the PKCS #10 request.
type names struct {
	Subject        pkix.Name
	DNSNames       []string
	IPAddresses    []netip.Addr
	URIs           []string
	EmailAddresses []string
	IsCA           bool
}

func namesOf(r csr.Request) names {
	var uris []string
	for _, u := range r.URIs {
		uris = append(uris, u.String())
	}
	return names{r.Subject, r.DNSNames, r.IPAddresses, uris, r.EmailAddresses, r.IsCA}
}

func TestParseReadsNames(t *testing.T) {
	istio := func(template x509.CertificateRequest) []byte {
		template.SignatureAlgorithm = x509.ECDSAWithSHA256
		return create(t, &template, mustKey[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	}
	workload := "spiffe://cluster.local/ns/shop/sa/web"
	criticalURI := raw{
		subject:    sequence(tlv(tagSet, attribute(oidO, tagPrintable, ""))),
		attributes: extensions(extension(oidSAN, derTrue, sequence(tlv(0x86, []byte(workload))))),
	}
	tests := map[string]struct {
		request []byte
		want    names
	}{
		"agent": {
			create(t, &x509.CertificateRequest{
				DNSNames:    []string{"web.shop.svc", "web.shop.svc.cluster.local"},
				URIs:        []*url.URL{mustURL(t, workload)},
				IPAddresses: []net.IP{net.ParseIP("198.51.100.7"), net.ParseIP("2001:db8::7")},
			}, testKey),
			names{
				DNSNames:    []string{"web.shop.svc", "web.shop.svc.cluster.local"},
				URIs:        []string{workload},
				IPAddresses: []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")},
			},
		},
		"istio sidecar: critical URI, empty organization": {
			criticalURI.pem(),
			names{Subject: pkix.Name{Organization: []string{""}}, URIs: []string{workload}},
		},
		"ztunnel: no subject": {
			raw{attributes: criticalURI.attributes}.pem(),
			names{URIs: []string{workload}},
		},
		"istiod's own": {
			istio(x509.CertificateRequest{DNSNames: []string{"istiod.istio-system.svc", "istiod-remote.istio-system.svc"}}),
			names{DNSNames: []string{"istiod.istio-system.svc", "istiod-remote.istio-system.svc"}},
		},
		"a user of two groups, as client-go writes it": {
			create(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jo", Organization: []string{"app1", "app2"}}}, testKey),
			names{Subject: pkix.Name{CommonName: "jo", Organization: []string{"app1", "app2"}}},
		},
		"every subject attribute": {
			create(t, &x509.CertificateRequest{Subject: pkix.Name{
				Country: []string{"DE"}, Organization: []string{"Büro"}, OrganizationalUnit: []string{"a"}, Locality: []string{"b"},
				Province: []string{"c"}, StreetAddress: []string{"d"}, PostalCode: []string{"10115"}, SerialNumber: "7", CommonName: "日本",
			}}, testKey),
			names{Subject: pkix.Name{
				Country: []string{"DE"}, Organization: []string{"Büro"}, OrganizationalUnit: []string{"a"}, Locality: []string{"b"},
				Province: []string{"c"}, StreetAddress: []string{"d"}, PostalCode: []string{"10115"}, SerialNumber: "7", CommonName: "日本",
			}},
		},
		"common name of 64 characters in two bytes each": {
			withSubject(attribute(oidCN, tagUTF8, strings.Repeat("ü", 64))),
			names{Subject: pkix.Name{CommonName: strings.Repeat("ü", 64)}},
		},
		"openssl, every kind of name and extension": {
			fixture(t, "all-names.pem"),
			names{
				Subject:        pkix.Name{Country: []string{"DE"}, Organization: []string{"example:b", "example:a"}, CommonName: "web.example.com"},
				DNSNames:       []string{"web.example.com", "*.web.example.com"},
				IPAddresses:    []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
				URIs:           []string{"spiffe://example.com/web"},
				EmailAddresses: []string{"ops@example.com"},
			},
		},
		"openssl, asking to be a CA": {
			fixture(t, "ca.pem"),
			names{Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"example:b", "example:a"}, CommonName: "web.example.com"}, IsCA: true},
		},
		"basic constraints of no CA": {raw{attributes: extensions(extension(oidBC, sequence()))}.pem(), names{}},
		"CA, by Go":                  {raw{attributes: extensions(extension(oidBC, derTrue, sequence(derTrue)))}.pem(), names{IsCA: true}},
		"nothing but a key":          {raw{}.pem(), names{}},
		"spaces around the PEM":      {join([]byte(" \t\r\n"), bytes.ReplaceAll(raw{}.pem(), []byte("\n"), []byte("\r\n")), []byte("\n\n")), names{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			obj := object(tt.request)
			obj.Spec.Usages = append(obj.Spec.Usages, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign)
			req, err := csr.Parse(obj)
			if err != nil {
				t.Fatal(err)
			}
			if got := namesOf(req); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if block, _ := pem.Decode(tt.request); !bytes.Equal(req.DER, block.Bytes) {
				t.Error("DER is not what the PEM block holds")
			}
			checkAgreement(t, req)
			checkRebuilt(t, req)
		})
	}
}

func TestParseReadsKeys(t *testing.T) {
	ec := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		return mustKey[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(curve, rand.Reader))
	}
	rsaKey := mustKey[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	tests := map[string]struct {
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
		want      csr.Key
	}{
		"P-256":             {ec(elliptic.P256()), x509.ECDSAWithSHA256, csr.Key{Algorithm: csr.AlgorithmECDSA, Size: 256}},
		"P-384":             {ec(elliptic.P384()), x509.ECDSAWithSHA384, csr.Key{Algorithm: csr.AlgorithmECDSA, Size: 384}},
		"P-521":             {ec(elliptic.P521()), x509.ECDSAWithSHA512, csr.Key{Algorithm: csr.AlgorithmECDSA, Size: 521}},
		"Ed25519":           {testKey, x509.PureEd25519, csr.Key{Algorithm: csr.AlgorithmEd25519, Size: 256}},
		"RSA, SHA-256":      {rsaKey, x509.SHA256WithRSA, csr.Key{Algorithm: csr.AlgorithmRSA, Size: 2048}},
		"RSA, SHA-384":      {rsaKey, x509.SHA384WithRSA, csr.Key{Algorithm: csr.AlgorithmRSA, Size: 2048}},
		"RSA, SHA-512":      {rsaKey, x509.SHA512WithRSA, csr.Key{Algorithm: csr.AlgorithmRSA, Size: 2048}},
		"RSA, PSS, SHA-256": {rsaKey, x509.SHA256WithRSAPSS, csr.Key{Algorithm: csr.AlgorithmRSA, Size: 2048}},
		"RSA, PSS, SHA-384": {rsaKey, x509.SHA384WithRSAPSS, csr.Key{Algorithm: csr.AlgorithmRSA, Size: 2048}},
		"RSA, PSS, SHA-512": {rsaKey, x509.SHA512WithRSAPSS, csr.Key{Algorithm: csr.AlgorithmRSA, Size: 2048}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := csr.Parse(object(create(t, &x509.CertificateRequest{SignatureAlgorithm: tt.algorithm}, tt.key)))
			if err != nil {
				t.Fatal(err)
			}
			if req.Key != tt.want {
				t.Errorf("got %+v, want %+v", req.Key, tt.want)
			}
			if public, ok := req.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(tt.key.Public()) {
				t.Errorf("got the public key %v", req.PublicKey)
			}
		})
	}
	for file, want := range map[string]csr.Key{
		"rsa-pss.pem":  {Algorithm: csr.AlgorithmRSA, Size: 2048},
		"rsa-8192.pem": {Algorithm: csr.AlgorithmRSA, Size: 8192},
	} {
		t.Run(file, func(t *testing.T) {
			req, err := csr.Parse(object(fixture(t, file)))
			if err != nil {
				t.Fatal(err)
			}
			if req.Key != want {
				t.Errorf("got %+v, want %+v", req.Key, want)
			}
		})
	}
}

func TestParseCopiesSpec(t *testing.T) {
	obj := object(raw{}.pem())
	req, err := csr.Parse(obj)
	if err != nil {
		t.Fatal(err)
	}
	want := csr.Requester{
		Username: "system:serviceaccount:shop:web", UID: "7a1f", Groups: []string{"system:serviceaccounts", "system:authenticated"},
		Extra: map[string]certificatesv1.ExtraValue{"authentication.kubernetes.io/pod-name": {"web-0"}},
	}
	der := bytes.Clone(req.DER)
	obj.Spec.Groups[0] = "system:masters"
	obj.Spec.Extra["authentication.kubernetes.io/pod-name"][0] = "other-0"
	obj.Spec.Usages[0] = certificatesv1.UsageCertSign
	clear(obj.Spec.Request)
	switch {
	case req.Name != "web-abcde" || req.UID != obj.UID || req.SignerName != "example.com/internal":
		t.Errorf("got %s %s %s", req.Name, req.UID, req.SignerName)
	case !reflect.DeepEqual(req.Requester, want):
		t.Errorf("got the requester %+v, want %+v", req.Requester, want)
	case !reflect.DeepEqual(req.Usages, []certificatesv1.KeyUsage{"digital signature", "server auth", "client auth"}):
		t.Errorf("got the usages %v", req.Usages)
	case req.Duration != time.Hour || req.WithDuration(time.Minute).Duration != time.Minute:
		t.Errorf("got the duration %s", req.Duration)
	case !bytes.Equal(req.DER, der):
		t.Error("DER shares memory with the object")
	}
	if _, ok := req.PublicKey.(ed25519.PublicKey); !ok {
		t.Errorf("got a key of type %T", req.PublicKey)
	}

	obj = object(raw{}.pem())
	obj.Spec.ExpirationSeconds = nil
	if req, err := csr.Parse(obj); err != nil || req.Duration != 0 {
		t.Errorf("without expirationSeconds: got %s, %v", req.Duration, err)
	}
}

func BenchmarkParseECDSA(b *testing.B) {
	key := mustKey[*ecdsa.PrivateKey](b)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	obj := object(create(b, &x509.CertificateRequest{
		DNSNames: []string{"web.shop.svc", "web.shop.svc.cluster.local"},
		URIs:     []*url.URL{mustURL(b, "spiffe://cluster.local/ns/shop/sa/web")},
	}, key))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := csr.Parse(obj); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseWorst reads the most expensive requests that fit: an RSA key of the largest size, and names that cost most.
func BenchmarkParseWorst(b *testing.B) {
	var labels [][]byte
	for range 950 {
		labels = append(labels, tlv(0x82, []byte("xn--fa-hia")))
	}
	for name, request := range map[string][]byte{"RSA8192": fixture(b, "rsa-8192.pem"), "Punycode": withSAN(labels...)} {
		b.Run(name, func(b *testing.B) {
			obj := object(request)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := csr.Parse(obj); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
