// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package csr_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/csr"
)

type hostile struct {
	name    string
	request []byte
	reason  string
}

func hostilePEM(t *testing.T) []hostile {
	good := raw{}.pem()
	body := bytes.TrimSuffix(bytes.TrimPrefix(good, []byte("-----BEGIN CERTIFICATE REQUEST-----\n")), []byte("-----END CERTIFICATE REQUEST-----\n"))
	block := func(contents string) []byte {
		return []byte("-----BEGIN CERTIFICATE REQUEST-----\n" + contents + "-----END CERTIFICATE REQUEST-----\n")
	}
	return []hostile{
		{"1 MiB of base64", block(strings.Repeat(strings.Repeat("A", 64)+"\n", 16<<10)), csr.ReasonRequestTooLarge},
		{"1 MiB of spaces before the request", append(bytes.Repeat([]byte(" "), 1<<20), good...), csr.ReasonRequestTooLarge},
		{"1 MiB of BEGIN lines", bytes.Repeat([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"), 1<<20/36), csr.ReasonRequestTooLarge},
		{"one byte too many", append(good, bytes.Repeat([]byte("\n"), 16<<10+1-len(good))...), csr.ReasonRequestTooLarge},
		{"empty", nil, csr.ReasonPEMMissing},
		{"bare DER", raw{}.der(), csr.ReasonPEMMissing},
		{"leading text", append([]byte("\x1b[2Jhello\n"), good...), csr.ReasonPEMLeadingText},
		{"one byte of leading text", append([]byte("x"), good...), csr.ReasonPEMLeadingText},
		{"trailing text", append(good, "hello"...), csr.ReasonPEMTrailingText},
		{"trailing NUL", append(good, 0), csr.ReasonPEMTrailingText},
		{"two blocks", join(good, good), csr.ReasonPEMSecondBlock},
		{"second block of another type", join(good, bytes.ReplaceAll(good, []byte("CERTIFICATE REQUEST"), []byte("PRIVATE KEY"))), csr.ReasonPEMSecondBlock},
		{"certificate", bytes.ReplaceAll(good, []byte("CERTIFICATE REQUEST"), []byte("CERTIFICATE")), csr.ReasonPEMType},
		{"new certificate request", bytes.ReplaceAll(good, []byte("CERTIFICATE"), []byte("NEW CERTIFICATE")), csr.ReasonPEMType},
		{"type with control characters", bytes.ReplaceAll(good, []byte("CERTIFICATE REQUEST"), []byte("\x1b[31mX")), csr.ReasonPEMType},
		{"headers", block("Proc-Type: 4,ENCRYPTED\n\n" + string(body)), csr.ReasonPEMHeaders},
		{"garbage line in the base64", block("!!!!\n" + string(body)), csr.ReasonPEMNotCanonical},
		{"a broken block before the good one", append([]byte("-----BEGIN CERTIFICATE REQUEST-----\n!!!!\n"), good...), csr.ReasonPEMNotCanonical},
		{"no end line", []byte("-----BEGIN CERTIFICATE REQUEST-----\n" + string(body)), csr.ReasonPEMNotCanonical},
		{"bits left over in the base64", bytes.Replace(toPEM(append(raw{}.der(), 0)), []byte("AA==\n"), []byte("AB==\n"), 1), csr.ReasonPEMNotCanonical},
		{"block without contents", block(""), csr.ReasonDERMalformed},
	}
}

func hostileDER(t *testing.T) []hostile {
	der := raw{}.der()
	indefinite := append(append([]byte{tagSequence, 0x80}, der[3:]...), 0, 0)
	longForm := append([]byte{tagSequence, 0x82, 0}, der[2:]...)
	return []hostile{
		{"not DER", toPEM([]byte("hello")), csr.ReasonDERMalformed},
		{"cut short", toPEM(der[:len(der)-1]), csr.ReasonDERMalformed},
		{"indefinite length", toPEM(indefinite), csr.ReasonDERMalformed},
		{"length in more bytes than needed", toPEM(longForm), csr.ReasonDERMalformed},
		{"no attributes field", raw{attributes: []byte{}}.pem(), csr.ReasonDERMalformed},
		{"bytes after the request", raw{after: []byte{5, 0}}.pem(), csr.ReasonDERTrailingBytes},
		{"element after the signature", raw{afterSignature: derNull}.pem(), csr.ReasonDERTrailingBytes},
		{"element after the attributes", raw{afterInfo: derNull}.pem(), csr.ReasonDERTrailingBytes},
		{"no version", raw{version: []byte{}}.pem(), csr.ReasonDERMalformed},
		{"version 2", raw{version: []byte{tagInteger, 1, 1}}.pem(), csr.ReasonVersion},
		{"version in two bytes", raw{version: []byte{tagInteger, 2, 0, 0}}.pem(), csr.ReasonDERMalformed},
		{"padding bits in the signature", raw{signature: tlv(tagBitString, []byte{1}, make([]byte, 64))}.pem(), csr.ReasonDERMalformed},
	}
}

func hostileExtensions(t *testing.T) []hostile {
	san := extension(oidSAN, sequence(tlv(0x82, []byte("web.example.com"))))
	request := func(list ...[]byte) []byte { return raw{attributes: extensions(list...)}.pem() }
	attribute := func(list ...[]byte) []byte { return raw{attributes: attributes(list...)}.pem() }
	return []hostile{
		{"challenge password", fixture(t, "challenge-password.pem"), csr.ReasonAttribute},
		{"challenge password beside an extension request", attribute(sequence(oidChallengePassword, tlv(tagSet, tlv(tagUTF8, []byte("x")))), sequence(oidExtensionRequest, tlv(tagSet, sequence(san)))), csr.ReasonAttribute},
		{"attribute that crypto/x509 ignores", attribute(sequence(oid(1, 2, 3), derNull)), csr.ReasonDERMalformed},
		{"element after an attribute's values", attribute(sequence(oidExtensionRequest, tlv(tagSet, sequence(san)), derNull)), csr.ReasonDERMalformed},
		{"two extension requests", attribute(sequence(oidExtensionRequest, tlv(tagSet, sequence(san))), sequence(oidExtensionRequest, tlv(tagSet, sequence(san)))), csr.ReasonExtensionRequestValues},
		{"extension request with two values", attribute(sequence(oidExtensionRequest, tlv(tagSet, sequence(san), sequence(san)))), csr.ReasonExtensionRequestValues},
		{"extension request without values", attribute(sequence(oidExtensionRequest, tlv(tagSet))), csr.ReasonDERMalformed},
		{"extension request without extensions", request(), csr.ReasonDERMalformed},
		{"unknown extension", fixture(t, "unknown-extension.pem"), csr.ReasonExtension},
		{"critical unknown extension", request(extension(oid(2, 5, 29, 30), derTrue, sequence())), csr.ReasonExtension},
		{"name constraints behind a good extension", request(san, extension(oid(2, 5, 29, 30), sequence())), csr.ReasonExtension},
		{"extension with a long object identifier", request(extension(oid(append([]int{1, 2}, make([]int, 4000)...)...), sequence())), csr.ReasonExtension},
		{"extension twice", request(san, san), csr.ReasonExtensionRepeated},
		{"critical false, written out", request(extension(oidSAN, derFalse, sequence(tlv(0x82, []byte("web"))))), csr.ReasonDERMalformed},
		{"critical true, as 1", request(extension(oidSAN, []byte{1, 1, 1}, sequence(tlv(0x82, []byte("web"))))), csr.ReasonDERMalformed},
		{"bytes after an extension", request(sequence(oidSAN, tlv(tagOctets, sequence(tlv(0x82, []byte("web")))), derNull)), csr.ReasonDERMalformed},
		{"path length", fixture(t, "pathlen.pem"), csr.ReasonPathLength},
		{"path length without the CA flag", request(extension(oidBC, sequence([]byte{tagInteger, 1, 0}))), csr.ReasonPathLength},
		{"CA false, written out", request(extension(oidBC, sequence(derFalse))), csr.ReasonDERMalformed},
		{"bytes after basic constraints", request(extension(oidBC, append(sequence(derTrue), 5, 0))), csr.ReasonDERMalformed},
		{"element inside basic constraints", request(extension(oidBC, sequence(derTrue, derNull))), csr.ReasonDERMalformed},
		{"cert sign not in spec.usages", request(extension(oidKU, tlv(tagBitString, []byte{2, 0x84}))), csr.ReasonKeyUsage},
		{"key usage without bits", request(extension(oidKU, tlv(tagBitString, []byte{0}))), csr.ReasonDERMalformed},
		{"bytes after key usage", request(extension(oidKU, append(tlv(tagBitString, []byte{7, 0x80}), derNull...))), csr.ReasonDERMalformed},
		{"key usage with trailing zero bits", request(extension(oidKU, tlv(tagBitString, []byte{0, 0x80}))), csr.ReasonDERMalformed},
		{"key usage with a tenth bit", request(extension(oidKU, tlv(tagBitString, []byte{6, 0x80, 0x40}))), csr.ReasonDERMalformed},
		{"code signing not in spec.usages", request(extension(oidEKU, sequence(oidServerAuth, oidCodeSigning))), csr.ReasonExtKeyUsage},
		{"any extended usage", request(extension(oidEKU, sequence(oid(2, 5, 29, 37, 0)))), csr.ReasonExtKeyUsage},
		{"extended key usage twice", request(extension(oidEKU, sequence(oidServerAuth, oidServerAuth))), csr.ReasonDERMalformed},
		{"bytes after extended key usage", request(extension(oidEKU, append(sequence(oidServerAuth), derNull...))), csr.ReasonDERMalformed},
		{"no extended key usage", request(extension(oidEKU, sequence())), csr.ReasonDERMalformed},
	}
}

func hostileNames(t *testing.T) []hostile {
	mapped := append(bytes.Repeat([]byte{0}, 10), 0xff, 0xff, 10, 0, 0, 1)
	return []hostile{
		{"otherName", fixture(t, "othername.pem"), csr.ReasonSANKind},
		{"directoryName", fixture(t, "directoryname.pem"), csr.ReasonSANKind},
		{"registeredID", fixture(t, "registeredid.pem"), csr.ReasonSANKind},
		{"x400Address", withSAN(tlv(0xa3)), csr.ReasonSANKind},
		{"ediPartyName", withSAN(tlv(0xa5)), csr.ReasonSANKind},
		{"dNSName as a constructed string", withSAN(tlv(0xa2, tlv(tagIA5, []byte("web")))), csr.ReasonSANKind},
		{"IA5String instead of a choice", withSAN(tlv(tagIA5, []byte("web"))), csr.ReasonSANKind},
		{"otherName behind a good name", withSAN(tlv(0x82, []byte("web.example.com")), tlv(0xa0, oid(1, 2, 3))), csr.ReasonSANKind},
		{"no names", withSAN(), csr.ReasonDERMalformed},
		{"bytes after the names", raw{attributes: extensions(extension(oidSAN, append(sequence(tlv(0x82, []byte("web"))), 0)))}.pem(), csr.ReasonDERMalformed},
		{"name with a broken length", withSAN([]byte{0x82, 9, 'w'}), csr.ReasonDERMalformed},
		{"empty DNS name", dnsSAN(""), csr.ReasonDNSNameLength},
		{"empty DNS label", dnsSAN("web..example.com"), csr.ReasonDNSNameEmptyLabel},
		{"trailing dot", dnsSAN("web.example.com."), csr.ReasonDNSNameTrailingDot},
		{"NUL in a DNS name", dnsSAN("web.example.com\x00.example.org"), csr.ReasonDNSNameCharacter},
		{"raw UTF-8 in a DNS name", dnsSAN("büro.example.com"), csr.ReasonDNSNameCharacter},
		{"upper case in a DNS name", dnsSAN("WEB.example.com"), csr.ReasonDNSNameCharacter},
		{"hyphen at the end of a label", dnsSAN("web-.example.com"), csr.ReasonDNSNameHyphen},
		{"wildcard in the middle", dnsSAN("web.*.example.com"), csr.ReasonDNSNameWildcard},
		{"broken punycode", dnsSAN("xn--a.example.com"), csr.ReasonDNSNamePunycode},
		{"IPv4 address as a DNS name", dnsSAN("10.0.0.1"), csr.ReasonDNSNameIsIP},
		{"email address with a display name", emailSAN("Ops <ops@example.com>"), csr.ReasonEmail},
		{"URI with a user", uriSAN("https://root@example.com/"), csr.ReasonURI},
		{"SPIFFE ID with a dot segment", uriSAN("spiffe://example.com/ns/a/../b"), csr.ReasonSPIFFEID},
		{"SPIFFE ID with a dot behind its trust domain", uriSAN("spiffe://example.com./web"), csr.ReasonSPIFFEID},
		{"IP address of 5 bytes", withSAN(tlv(0x87, []byte{10, 0, 0, 1, 0})), csr.ReasonIPAddressLength},
		{"IP address with a mask", withSAN(tlv(0x87, []byte{10, 0, 0, 0, 255, 0, 0, 0})), csr.ReasonIPAddressLength},
		{"IPv4-mapped address", withSAN(tlv(0x87, mapped)), csr.ReasonIPAddressMapped},
		{"unspecified IPv4 address", withSAN(tlv(0x87, make([]byte, 4))), csr.ReasonIPAddressUnusable},
		{"unspecified IPv6 address", withSAN(tlv(0x87, make([]byte, 16))), csr.ReasonIPAddressUnusable},
		{"multicast address", withSAN(tlv(0x87, []byte{224, 0, 0, 1})), csr.ReasonIPAddressUnusable},
		{"broadcast address", withSAN(tlv(0x87, []byte{255, 255, 255, 255})), csr.ReasonIPAddressUnusable},
	}
}

func hostileSubjects(t *testing.T) []hostile {
	cn := func(value string) []byte { return attribute(oidCN, tagUTF8, value) }
	return []hostile{
		{"RDN of two attributes", fixture(t, "multivalued.pem"), csr.ReasonSubjectMultiValued},
		{"RDN out of order", withSubject(join(attribute(oidO, tagUTF8, "b"), attribute(oidO, tagUTF8, "a"))), csr.ReasonDERMalformed},
		{"RDN without attributes", withSubject(nil), csr.ReasonDERMalformed},
		{"two common names", withSubject(cn("a"), cn("b")), csr.ReasonSubjectRepeated},
		{"two common names in one RDN", withSubject(join(cn("a"), cn("b"))), csr.ReasonSubjectRepeated},
		{"two serial numbers", withSubject(attribute(oid(2, 5, 4, 5), tagPrintable, "1"), attribute(oid(2, 5, 4, 5), tagPrintable, "2")), csr.ReasonSubjectRepeated},
		{"email address in the subject", withSubject(attribute(oid(1, 2, 840, 113549, 1, 9, 1), tagIA5, "a@example.com")), csr.ReasonSubjectAttribute},
		{"domain component", withSubject(attribute(oid(0, 9, 2342, 19200300, 100, 1, 25), tagUTF8, "example")), csr.ReasonSubjectAttribute},
		{"BMPString", fixture(t, "bmpstring.pem"), csr.ReasonSubjectStringType},
		{"BMPString of a NUL", withSubject(attribute(oidCN, tagBMP, "\x00\x00")), csr.ReasonSubjectStringType},
		{"T61String", withSubject(attribute(oidCN, 0x14, "a")), csr.ReasonSubjectStringType},
		{"IA5String", withSubject(attribute(oidCN, tagIA5, "a")), csr.ReasonSubjectStringType},
		{"sequence for a value", withSubject(attribute(oidCN, tagSequence, "")), csr.ReasonSubjectStringType},
		{"NUL in the common name", withSubject(cn("admin\x00.example.com")), csr.ReasonSubjectText},
		{"newline in the common name", withSubject(cn("web\nApproved")), csr.ReasonSubjectText},
		{"terminal escape in the common name", withSubject(cn("\x1b[2J")), csr.ReasonSubjectText},
		{"right-to-left override", withSubject(cn("web\u202egnp")), csr.ReasonSubjectText},
		{"zero-width space", withSubject(cn("we\u200bb")), csr.ReasonSubjectText},
		{"no-break space", withSubject(cn("a\u00a0b")), csr.ReasonSubjectText},
		{"invalid UTF-8", withSubject(cn("\xff")), csr.ReasonSubjectText},
		{"overlong UTF-8", withSubject(cn("\xc0\x80")), csr.ReasonSubjectText},
		{"asterisk in a PrintableString", withSubject(attribute(oidCN, tagPrintable, "*.example.com")), csr.ReasonSubjectText},
		{"empty common name", withSubject(cn("")), csr.ReasonSubjectEmpty},
		{"empty serial number", withSubject(attribute(oid(2, 5, 4, 5), tagUTF8, "")), csr.ReasonSubjectEmpty},
		{"common name of 65 characters", withSubject(cn(strings.Repeat("ü", 65))), csr.ReasonCommonNameLength},
		{"subject that is a set", raw{subject: tlv(tagSet)}.pem(), csr.ReasonDERMalformed},
		{"bytes inside an attribute", withSubject(sequence(oidCN, tlv(tagUTF8, []byte("a")), derNull)), csr.ReasonDERMalformed},
	}
}

// checkRefusal asserts that err is a refusal that is safe to show, and returns its reason.
func checkRefusal(t *testing.T, err error) *csr.Refusal {
	t.Helper()
	var refusal *csr.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("got error %v, want a *Refusal", err)
	}
	if text := refusal.Error(); len(text) > 600 {
		t.Errorf("the message has %d bytes: %s", len(text), text)
	} else if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		t.Errorf("the message shows %q: %q", text[i:], text)
	}
	if !strings.HasPrefix(refusal.Field, "spec.") {
		t.Errorf("the field is %q, want one of spec", refusal.Field)
	}
	return refusal
}

func TestParseRefusesHostileRequests(t *testing.T) {
	for _, group := range [][]hostile{hostilePEM(t), hostileDER(t), hostileExtensions(t), hostileNames(t), hostileSubjects(t), hostileKeys(t)} {
		for _, tt := range group {
			t.Run(tt.name, func(t *testing.T) {
				req, err := csr.Parse(object(tt.request))
				refusal := checkRefusal(t, err)
				if refusal.Reason != tt.reason {
					t.Errorf("got reason %s (%v), want %s", refusal.Reason, err, tt.reason)
				}
				if req.DER != nil || req.Name != "" {
					t.Errorf("a refused request is returned all the same: %+v", req)
				}
			})
		}
	}
}

func hostileSpecs() map[string]struct {
	change func(*certificatesv1.CertificateSigningRequestSpec)
	reason string
	field  string
} {
	type spec = certificatesv1.CertificateSigningRequestSpec
	return map[string]struct {
		change func(*spec)
		reason string
		field  string
	}{
		"no usages":       {func(s *spec) { s.Usages = nil }, csr.ReasonNoUsages, "spec.usages"},
		"unknown usage":   {func(s *spec) { s.Usages = append(s.Usages, "Server Auth") }, csr.ReasonUnknownUsage, "spec.usages[3]"},
		"repeated usage":  {func(s *spec) { s.Usages = append(s.Usages, s.Usages[0]) }, csr.ReasonRepeatedUsage, "spec.usages[3]"},
		"599 seconds":     {func(s *spec) { s.ExpirationSeconds = ptr.To[int32](599) }, csr.ReasonExpirationTooShort, "spec.expirationSeconds"},
		"negative expiry": {func(s *spec) { s.ExpirationSeconds = ptr.To[int32](-1) }, csr.ReasonExpirationTooShort, "spec.expirationSeconds"},
	}
}

func TestParseRefusesHostileSpecs(t *testing.T) {
	for name, tt := range hostileSpecs() {
		t.Run(name, func(t *testing.T) {
			obj := object(raw{}.pem())
			tt.change(&obj.Spec)
			_, err := csr.Parse(obj)
			if refusal := checkRefusal(t, err); refusal.Reason != tt.reason || refusal.Field != tt.field {
				t.Errorf("got %s at %s, want %s at %s", refusal.Reason, refusal.Field, tt.reason, tt.field)
			}
		})
	}
}

// TestEveryReasonIsTested holds the constants against the tables above, so that no refusal exists that no request meets.
func TestEveryReasonIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, group := range [][]hostile{hostilePEM(t), hostileDER(t), hostileExtensions(t), hostileNames(t), hostileSubjects(t), hostileKeys(t)} {
		for _, tt := range group {
			tested[tt.reason] = true
		}
	}
	for _, tt := range hostileSpecs() {
		tested[tt.reason] = true
	}
	for _, tt := range hostilePods(t) {
		tested[tt.reason] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "refusal.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if other := declared[value]; other != "" {
			t.Errorf("%s and %s are the same reason", spec.Names[0].Name, other)
		}
		declared[value] = spec.Names[0].Name
		if !tested[value] {
			t.Errorf("no request is refused with %s", spec.Names[0].Name)
		}
		return true
	})
	if len(declared) == 0 {
		t.Error("found no reasons in refusal.go")
	}
}
