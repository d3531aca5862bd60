// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/certwright/certwright/csr"
)

// FuzzParse writes arbitrary bytes where the subject and the attributes of a correctly signed request are. Whatever of it is
// accepted, crypto/x509 must read the same names from, and a request and a certificate made from the fields must hold the same names again.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.pem")
	if err != nil || len(files) == 0 {
		f.Fatal("no requests in testdata", err)
	}
	// The subject and the attributes are the second and the fourth element of the signed part.
	seed := func(request []byte) {
		block, _ := pem.Decode(request)
		signed := children(children(block.Bytes)[0])
		f.Add(signed[1], signed[3])
	}
	for _, file := range files {
		seed(fixture(f, filepath.Base(file)))
	}
	seed(withSubject(attribute(oidO, tagPrintable, "")))
	seed(withSubject(join(attribute(oidO, tagUTF8, "a"), attribute(oidO, tagUTF8, "b")), attribute(oidO, tagUTF8, "c")))
	seed(withSAN(tlv(0x82, []byte("*.xn--bcher-kva.example")), tlv(0x82, []byte("web.shop.svc")), tlv(0x81, []byte("a@b.example"))))
	seed(withSAN(tlv(0x86, []byte("https://[2001:db8::1]:8443/a%20b?c=d")), tlv(0x87, []byte{192, 0, 2, 1})))
	seed(raw{attributes: extensions(extension(oidBC, derTrue, sequence(derTrue)), extension(oidKU, tlv(tagBitString, []byte{7, 0x80})), extension(oidEKU, sequence(oidServerAuth)))}.pem())

	f.Fuzz(func(t *testing.T, subject, attributes []byte) {
		if subject == nil || attributes == nil {
			return
		}
		req, err := csr.Parse(object(raw{subject: subject, attributes: attributes}.pem()))
		if err != nil {
			_ = checkRefusal(t, err)
			return
		}
		checkAgreement(t, req)
		checkRebuilt(t, req)
	})
}

// children returns the elements in a well-formed DER element.
func children(der []byte) (out [][]byte) {
	header := func(b []byte) (head, length int) {
		if b[1] < 0x80 {
			return 2, int(b[1])
		}
		n := int(b[1] & 0x7f)
		for _, c := range b[2 : 2+n] {
			length = length<<8 | int(c)
		}
		return 2 + n, length
	}
	head, length := header(der)
	for rest := der[head : head+length]; len(rest) > 0; {
		h, l := header(rest)
		out = append(out, rest[:h+l])
		rest = rest[h+l:]
	}
	return out
}

// checkAgreement asserts that crypto/x509, and so every backend that forwards DER to a Go program, sees the same names.
func checkAgreement(t *testing.T, req csr.Request) {
	t.Helper()
	other, err := x509.ParseCertificateRequest(req.DER)
	if err != nil {
		t.Fatalf("crypto/x509 refuses what was accepted: %v", err)
	}
	compare(t, "crypto/x509", req, other.Subject, other.DNSNames, other.EmailAddresses, other.IPAddresses, other.URIs)
	for _, ext := range other.Extensions {
		if ext.Id.String() == "2.5.29.19" && req.IsCA != (len(ext.Value) > 2) {
			t.Errorf("basic constraints are %x, but IsCA is %t", ext.Value, req.IsCA)
		}
	}
}

func compare(t *testing.T, who string, req csr.Request, subject pkix.Name, dns, emails []string, ips []net.IP, uris []*url.URL) {
	t.Helper()
	subject.Names = nil
	got := names{Subject: sorted(subject), DNSNames: dns, EmailAddresses: emails, IsCA: req.IsCA}
	for _, ip := range ips {
		addr, _ := netip.AddrFromSlice(ip)
		got.IPAddresses = append(got.IPAddresses, addr)
	}
	for _, u := range uris {
		got.URIs = append(got.URIs, u.String())
	}
	want := namesOf(req)
	want.Subject = sorted(want.Subject)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s sees  %+v\nthe parser %+v", who, got, want)
	}
}

// sorted brings values of one attribute into an order of their own: DER sorts them when they share an RDN.
func sorted(n pkix.Name) pkix.Name {
	for _, list := range []*[]string{&n.Country, &n.Organization, &n.OrganizationalUnit, &n.Locality, &n.Province, &n.StreetAddress, &n.PostalCode} {
		*list = slices.Clone(*list)
		slices.Sort(*list)
	}
	return n
}

// checkRebuilt asserts that a request and a certificate made from the fields hold what was asked for, no less and no more.
func checkRebuilt(t *testing.T, req csr.Request) {
	t.Helper()
	var ips []net.IP
	for _, addr := range req.IPAddresses {
		ips = append(ips, addr.AsSlice())
	}
	request := &x509.CertificateRequest{Subject: req.Subject, DNSNames: req.DNSNames, EmailAddresses: req.EmailAddresses, IPAddresses: ips, URIs: req.URIs}
	if req.IsCA {
		request.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: sequence(derTrue)}}
	}
	again, err := csr.Parse(object(create(t, request, testKey)))
	if err != nil {
		t.Fatalf("the request made from the fields is refused: %v\n%+v", err, req)
	}
	if again.IsCA != req.IsCA {
		t.Fatalf("IsCA was %t and is %t", req.IsCA, again.IsCA)
	}
	first := namesOf(again)
	compare(t, "the request made again", req, first.Subject, again.DNSNames, again.EmailAddresses, ips, again.URIs)
	if !slices.Equal(again.IPAddresses, req.IPAddresses) {
		t.Fatalf("got the IP addresses %v, want %v", again.IPAddresses, req.IPAddresses)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: req.Subject, DNSNames: req.DNSNames, EmailAddresses: req.EmailAddresses, IPAddresses: ips, URIs: req.URIs,
		BasicConstraintsValid: true, IsCA: req.IsCA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testKey.Public(), testKey)
	if err != nil {
		t.Fatalf("no certificate can be made from the fields: %v\n%+v", err, req)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("the certificate made from the fields does not parse: %v\n%+v", err, req)
	}
	compare(t, "the certificate", req, cert.Subject, cert.DNSNames, cert.EmailAddresses, cert.IPAddresses, cert.URIs)
	if cert.IsCA != req.IsCA {
		t.Fatalf("the certificate's IsCA is %t, want %t", cert.IsCA, req.IsCA)
	}
}

// FuzzParsePEM reads arbitrary text. Nothing panics, every refusal is safe to show, and what is accepted is the one PEM block
// that any other decoder finds.
func FuzzParsePEM(f *testing.F) {
	good := raw{}.pem()
	f.Add(good)
	f.Add(join(good, good))
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nA: b\n\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		req, err := csr.Parse(object(text))
		if err != nil {
			_ = checkRefusal(t, err)
			return
		}
		strip := func(b []byte) string { return strings.Join(strings.Fields(string(b)), "") }
		if strip(toPEM(req.DER)) != strip(text) {
			t.Errorf("accepted %q, which says more than its request", text)
		}
	})
}

func FuzzCheckDNSName(f *testing.F) {
	for _, name := range []string{"web.shop.svc", "*.example.com", "*.local", "a..b", "a.", "xn--bcher-kva.example", "xn--a", "10.0.0.1", "0x7f.1", "web.123", "ab--c", "W"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if csr.CheckDNSName(name) != nil {
			return
		}
		host := strings.Replace(name, "*", "sample", 1)
		if err := (&x509.Certificate{DNSNames: []string{name}}).VerifyHostname(host); err != nil {
			t.Errorf("%q is accepted, but no client accepts it: %v", name, err)
		}
		if _, err := netip.ParseAddr(host); err == nil || net.ParseIP(host) != nil {
			t.Errorf("%q is accepted, but is an IP address", name)
		}
		if strings.ToLower(name) != name || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q is accepted, but is not in lower-case ASCII", name)
		}
		if u, err := csr.ParseURI("https://" + host + "/"); err != nil || u.Hostname() != host {
			t.Errorf("%q is accepted, but not as the host of a URI: %v", name, err)
		}
	})
}

func FuzzParseURI(f *testing.F) {
	for _, uri := range []string{"https://example.com:8443/a%20b?c=d", "spiffe://example.com/ns/shop/sa/web", "https://[2001:db8::1]/", "https://a@b/", "https://a/../b", "spiffe://a/%2e"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := csr.ParseURI(raw)
		if err != nil {
			return
		}
		if u.String() != raw || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" || strings.ContainsAny(raw, "#@") && !strings.ContainsAny(u.EscapedPath()+u.RawQuery, "@") {
			t.Errorf("%q is accepted as %#v", raw, u)
		}
		if u.Path != "" && path.Clean(u.Path) != u.Path {
			t.Errorf("%q is accepted with the path %q, which cleans to %q", raw, u.Path, path.Clean(u.Path))
		}
	})
}
