// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net/netip"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"golang.org/x/net/idna"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
)

// The choices of GeneralName that may be asked for.
const (
	emailName = 1
	dnsName   = 2
	uriName   = 6
	ipName    = 7
)

// What may become of a name, where it is not refused for one of the reasons of package csr.
const (
	permitted = "permitted"
	denied    = "denied"
)

// outcome writes the bytes of a name into a signed request, and sends it all the way that a request goes: through the parser
// and through a policy that allows one pattern of each kind.
func outcome(t *testing.T, choice int, value string) string {
	t.Helper()
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: choice, Bytes: []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	obj := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		SignerName: signerName,
		Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
		Username:   "system:serviceaccount:shop:web",
	}}
	req, err := csr.Parse(obj)
	var refusal *csr.Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	if err != nil {
		t.Fatal(err)
	}
	p := mustCompile(t, plainPolicy(func(s *v1alpha1.CertificatePolicySpec) {
		s.Allow.DNSNames = []string{"desk.example.com", "*.team.example.com", "{service}.{namespace}.svc", "{hostname}.{service}.{namespace}.svc", "xn--bcher-kva.example"}
		s.Allow.Wildcards = true
		s.Allow.URIs = []string{"spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}", "https://desk.example.com:8443/*/end", "https://[2001:db8::1]/a", "https://192.0.2.1/a"}
		s.Allow.IPAddresses = []string{"pod", "192.0.2.0/24", "2001:db8::/32", "198.51.100.7"}
		s.Allow.EmailAddresses = []string{"desk@example.com", "*@team.example.com"}
	}))
	switch d := Decide(req, plainFacts(), []*Policy{p}); d.Verdict {
	case Permit:
		return permitted
	case Deny:
		return denied
	default:
		t.Fatalf("got no opinion: %+v", d)
		return ""
	}
}

type nameCase struct {
	choice int
	value  string
	want   string
}

func checkNames(t *testing.T, cases []nameCase) {
	t.Helper()
	for _, c := range cases {
		if got := outcome(t, c.choice, c.value); got != c.want {
			t.Errorf("%q is %s, want %s", c.value, got, c.want)
		}
	}
}

func TestDNSNamesThatEvade(t *testing.T) {
	cases := []nameCase{}
	for value, want := range map[string]string{
		"desk.example.com":   permitted,
		"a.team.example.com": permitted, "*.team.example.com": permitted,
		"web.shop.svc": permitted, "host-0.db.shop.svc": permitted,
		"xn--bcher-kva.example": permitted,

		// Whole labels, and as many.
		"team.example.com": denied, "a.b.team.example.com": denied, "evil-team.example.com": denied, "a.evil-team.example.com": denied,
		"desk.example.com.evil.org": denied, "evil.desk.example.com": denied, "desk.example": denied, "example.com": denied, "*.a.team.example.com": denied,
		"*.example.com": denied, "*.com": csr.ReasonDNSNameWildcard, "*": csr.ReasonDNSNameWildcard, "a*.team.example.com": csr.ReasonDNSNameWildcard,
		"a.*.example.com": csr.ReasonDNSNameWildcard, "*.*.team.example.com": csr.ReasonDNSNameWildcard,

		// Whom a name belongs to.
		"web.bank.svc": denied, "api.shop.svc": denied, "host-0.web.shop.svc": denied, "web-0.db.shop.svc": denied, "host-1.db.shop.svc": denied,
		"web.shop.svc.cluster.local": denied, "shop.svc": denied, "*.web.shop.svc": denied, "*.shop.svc": denied,

		// Spelling.
		"DESK.example.com": csr.ReasonDNSNameCharacter, "desk.EXAMPLE.com": csr.ReasonDNSNameCharacter, "XN--BCHER-KVA.example": csr.ReasonDNSNameCharacter,
		"desk.example.com.": csr.ReasonDNSNameTrailingDot, ".desk.example.com": csr.ReasonDNSNameEmptyLabel, "desk..example.com": csr.ReasonDNSNameEmptyLabel,
		"*..team.example.com": csr.ReasonDNSNameEmptyLabel, ".team.example.com": csr.ReasonDNSNameEmptyLabel, "": csr.ReasonDNSNameLength,
		"desk.example.com\x00": csr.ReasonDNSNameCharacter, "desk.example.com\x00.evil.org": csr.ReasonDNSNameCharacter, "\x00desk.example.com": csr.ReasonDNSNameCharacter,
		"desk.example.com\n": csr.ReasonDNSNameCharacter, " desk.example.com": csr.ReasonDNSNameCharacter, "desk%2eexample.com": csr.ReasonDNSNameCharacter,
		"d%65sk.example.com": csr.ReasonDNSNameCharacter, `desk\.example.com`: csr.ReasonDNSNameCharacter, `d\101sk.example.com`: csr.ReasonDNSNameCharacter,
		"de_sk.example.com": csr.ReasonDNSNameCharacter, "desk.example.com:443": csr.ReasonDNSNameCharacter, "desk.example.com/": csr.ReasonDNSNameCharacter,
		"desk@desk.example.com": csr.ReasonDNSNameCharacter, "https://desk.example.com": csr.ReasonDNSNameCharacter, "desk.example.com,evil.org": csr.ReasonDNSNameCharacter,
		"{service}.shop.svc": csr.ReasonDNSNameCharacter, "desk.example.com\xff": csr.ReasonDNSNameCharacter, "\xc0\xaedesk.example.com": csr.ReasonDNSNameCharacter,
		"-a.team.example.com": csr.ReasonDNSNameHyphen, "a-.team.example.com": csr.ReasonDNSNameHyphen, "ab--c.team.example.com": csr.ReasonDNSNameHyphen,
		strings.Repeat("a", 64) + ".team.example.com": csr.ReasonDNSNameLength, strings.Repeat("a.", 120) + "team.example.com": csr.ReasonDNSNameLength,

		// Punycode is compared as it is, and must be what IDNA makes of a name.
		"bücher.example": csr.ReasonDNSNameCharacter, "xn--bcher-kvb.example": csr.ReasonDNSNamePunycode, "xn--fa-hia.example": denied, "xn--bcher-kva.evil": denied,
		"xn--desk-.example.com": csr.ReasonDNSNameHyphen, "xn--.team.example.com": csr.ReasonDNSNameHyphen, "xn--a.team.example.com": csr.ReasonDNSNamePunycode,
		"xn--zzzzzzzz99999.team.example.com": csr.ReasonDNSNamePunycode,
		"xn--fa-hia.team.example.com":        permitted, "xn--xn--desk-6ve.team.example.com": csr.ReasonDNSNamePunycode,

		// Addresses as names.
		"192.0.2.1": csr.ReasonDNSNameIsIP, "2001:db8::1": csr.ReasonDNSNameIsIP, "192.0.513": csr.ReasonDNSNameIsIP, "0xc0.0.2.1": csr.ReasonDNSNameIsIP,
		"3221225985": csr.ReasonDNSNameIsIP, "a.team.example.0xff": csr.ReasonDNSNameIsIP, "0300.0.2.1": csr.ReasonDNSNameIsIP,
	} {
		cases = append(cases, nameCase{dnsName, value, want})
	}
	checkNames(t, cases)
}

// lookAlikes are characters that look like one of "desk.example.com", fold to one, are mapped to one by some standard, or do
// not show at all. The key is what they stand for.
var lookAlikes = map[string][]string{
	"d": {"\u0501", "\uff44", "\u2146", "\U0001d41d", "\u217e", "\u0257"},
	"e": {"\u0435", "\u212f", "\uff45", "\u0451", "\u00e9", "e\u0301", "\u2147", "\u0454"},
	"s": {"\u017f", "\u0455", "\uff53", "\u015f", "\U0001d42c"},
	"k": {"\u212a", "\u03ba", "\u043a", "\uff4b", "\U0001d424"},
	"x": {"\u0445", "\u00d7", "\u2179", "\uff58"},
	"a": {"\u0430", "\u0251", "\u00aa", "\u1d43", "\uff41"},
	"m": {"\u217f", "\uff4d", "rn", "\u043c"},
	"l": {"1", "\u2113", "\u0131", "\u04cf", "\u217c"},
	"c": {"\u0441", "\u03f2", "\u217d", "\uff43"},
	"o": {"0", "\u043e", "\u03bf", "\u00ba", "\u0585"},
	".": {"\u3002", "\uff0e", "\uff61", "\u2024", "\ufe52", "\u00b7"},
	"":  {"\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u202e", "\u2066", "\u034f", "\ufe0f", "\u180e", "\u115f", "\x7f", "\x08"},
}

// TestLookAlikes asks for names with each of the characters above in each place of what it looks like: as they are, and in
// the punycode of a client that checks nothing.
func TestLookAlikes(t *testing.T) {
	tried := 0
	try := func(choice int, value string) {
		tried++
		if got := outcome(t, choice, value); got == permitted {
			t.Errorf("%q is permitted", value)
		}
	}
	for _, genuine := range []nameCase{
		{dnsName, "desk.example.com", permitted},
		{uriName, "https://desk.example.com:8443/*/end", permitted},
		{uriName, "spiffe://td.example/ns/shop/sa/web", permitted},
		{emailName, "desk@example.com", permitted},
	} {
		checkNames(t, []nameCase{genuine})
		for i := range genuine.value {
			for letter, others := range lookAlikes {
				rest, found := strings.CutPrefix(genuine.value[i:], letter)
				if !found {
					continue
				}
				for _, other := range others {
					name := genuine.value[:i] + other + rest
					try(genuine.choice, name)
					if encoded, err := idna.Punycode.ToASCII(name); err == nil && genuine.choice == dnsName {
						try(dnsName, encoded)
						try(emailName, "desk@"+strings.TrimPrefix(encoded, "desk."))
						try(uriName, "https://"+encoded+":8443/x/end")
					}
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("tried only %d names", tried)
	}
}

func TestURIsThatEvade(t *testing.T) {
	cases := []nameCase{}
	for value, want := range map[string]string{
		"spiffe://td.example/ns/shop/sa/web": permitted, "https://desk.example.com:8443/x/end": permitted,
		"https://desk.example.com:8443/.../end": permitted, "https://[2001:db8::1]/a": permitted, "https://192.0.2.1/a": permitted,

		// Whom a name belongs to.
		"spiffe://td.example/ns/bank/sa/web": denied, "spiffe://td.example/ns/shop/sa/admin": denied, "spiffe://td.examples/ns/shop/sa/web": denied,
		"spiffe://evil.td.example/ns/shop/sa/web": denied, "spiffe://td.example/ns/shop/sa/web/x": denied, "spiffe://td.example/ns/shop/sa": denied,
		"spiffe://td.example": denied, "spiffe://td.example/NS/shop/sa/web": denied, "spiffe://td.example/ns/shop/sa/WEB": denied, "https://td.example/ns/shop/sa/web": denied,

		// SPIFFE IDs have one spelling.
		"SPIFFE://td.example/ns/shop/sa/web": csr.ReasonSPIFFEID, "spiffe://TD.example/ns/shop/sa/web": csr.ReasonSPIFFEID, "spiffe://td.example./ns/shop/sa/web": csr.ReasonSPIFFEID,
		"spiffe://td.example:443/ns/shop/sa/web": csr.ReasonSPIFFEID, "spiffe://evil@td.example/ns/shop/sa/web": csr.ReasonSPIFFEID, "spiffe://td.example/ns/shop/sa/web/": csr.ReasonSPIFFEID,
		"spiffe://td.example//ns/shop/sa/web": csr.ReasonSPIFFEID, "spiffe://td.example/ns/shop/./sa/web": csr.ReasonSPIFFEID, "spiffe://td.example/ns/bank/../shop/sa/web": csr.ReasonSPIFFEID,
		"spiffe://td.example/ns/shop/sa/web?x": csr.ReasonSPIFFEID, "spiffe://td.example/ns/shop/sa/web#x": csr.ReasonSPIFFEID, "spiffe://td.example/ns/shop/sa/w%65b": csr.ReasonSPIFFEID,
		"spiffe://td.example/ns/shop%2Fsa/web": csr.ReasonSPIFFEID, "spiffe:td.example/ns/shop/sa/web": csr.ReasonSPIFFEID, "spiffe:///ns/shop/sa/web": csr.ReasonSPIFFEID,
		"spiffe://td.example/ns/shop/sa/web;x": csr.ReasonSPIFFEID, "spiffe://td.example/ns/shop/sa/*": csr.ReasonSPIFFEID, "spiffe://td.example/ns/shop/sa/web\x00": csr.ReasonURI,
		"spiffe://[2001:db8::1]/ns/shop/sa/web": csr.ReasonSPIFFEID,

		// Hosts.
		"https://desk.example.com/x/end": denied, "https://desk.example.com:443/x/end": denied, "https://desk.example.com:844/x/end": denied, "https://a.desk.example.com:8443/x/end": denied,
		"http://desk.example.com:8443/x/end": denied, "https://[2001:db8::2]/a": denied, "https://192.0.2.2/a": denied,
		"HTTPS://desk.example.com:8443/x/end": csr.ReasonURI, "https://DESK.example.com:8443/x/end": csr.ReasonURI, "https://desk.example.com.:8443/x/end": csr.ReasonURI,
		"https://desk.example.com:08443/x/end": csr.ReasonURI, "https://desk.example.com:/x/end": csr.ReasonURI, "https://desk.example.com:8443:8443/x/end": csr.ReasonURI,
		"https://evil@desk.example.com:8443/x/end": csr.ReasonURI, "https://@desk.example.com:8443/x/end": csr.ReasonURI, "https://desk.example.com:8443@evil.org/x/end": csr.ReasonURI,
		`https://evil.org\@desk.example.com:8443/x/end`: csr.ReasonURI, "https://desk.example.com:8443%2F@evil.org/x/end": csr.ReasonURI, "https://desk%2eexample.com:8443/x/end": csr.ReasonURI,
		"https://desk.example.com%00.evil.org:8443/x/end": csr.ReasonURI, "https://*.example.com:8443/x/end": csr.ReasonURI,
		"https://[2001:DB8::1]/a": csr.ReasonURI, "https://[2001:db8:0::1]/a": csr.ReasonURI, "https://[2001:db8::1%25eth0]/a": csr.ReasonURI, "https://[::ffff:192.0.2.1]/a": csr.ReasonURI,
		"https://[192.0.2.1]/a": csr.ReasonURI, "https://192.0.513/a": csr.ReasonURI, "https://0xc0000201/a": csr.ReasonURI, "https://192.0.2.01/a": csr.ReasonURI, "https://2001:db8::1/a": csr.ReasonURI,

		// Paths.
		"https://desk.example.com:8443/x/y/end": denied, "https://desk.example.com:8443/end": denied, "https://desk.example.com:8443/x/END": denied, "https://desk.example.com:8443/x/end/y": denied,
		"https://desk.example.com:8443": denied, "https://desk.example.com:8443/": denied, "https://desk.example.com:8443/x/end?y": denied, "https://desk.example.com:8443/x/end;y": denied,
		"https://desk.example.com:8443/x/end?": denied, "https://desk.example.com:8443//end": csr.ReasonURI, "https://desk.example.com:8443/x//end": csr.ReasonURI,
		"https://desk.example.com:8443/x/end/": csr.ReasonURI, "https://desk.example.com:8443/../end": csr.ReasonURI, "https://desk.example.com:8443/./end": csr.ReasonURI,
		"https://desk.example.com:8443/y/../x/end": csr.ReasonURI, "https://desk.example.com:8443/%2E%2E/end": csr.ReasonURI, "https://desk.example.com:8443/%2e/end": csr.ReasonURI,
		"https://desk.example.com:8443/.%2E/end": csr.ReasonURI, "https://desk.example.com:8443/x%2Fend": csr.ReasonURI, "https://desk.example.com:8443/a%2Fb/end": csr.ReasonURI,
		"https://desk.example.com:8443/a%5Cb/end": csr.ReasonURI, `https://desk.example.com:8443/a\b/end`: csr.ReasonURI, "https://desk.example.com:8443/x/%65nd": csr.ReasonURI,
		"https://desk.example.com:8443/%00/end": csr.ReasonURI, "https://desk.example.com:8443/%E2%80%AE/end": csr.ReasonURI, "https://desk.example.com:8443/%C0%AF/end": csr.ReasonURI,
		"https://desk.example.com:8443/%252F/end": permitted, // the plain text "%2F", for whoever decodes as often as the standard says
		"https://desk.example.com:8443/x/end#y":   csr.ReasonURI, "https://desk.example.com:8443/x/end#": csr.ReasonURI, "https://desk.example.com:8443/x/end ": csr.ReasonURI,
		"https:desk.example.com:8443/x/end": csr.ReasonURI, "https:/desk.example.com:8443/x/end": csr.ReasonURI, "//desk.example.com:8443/x/end": csr.ReasonURI, "desk.example.com:8443/x/end": csr.ReasonURI,
		"javascript://desk.example.com:8443/x/end": denied, "urn:desk": csr.ReasonURI, "": csr.ReasonURI,
	} {
		cases = append(cases, nameCase{uriName, value, want})
	}
	checkNames(t, cases)
}

func TestIPAddressesThatEvade(t *testing.T) {
	cases := []nameCase{
		{ipName, "\x00\x00\x00\x00", csr.ReasonIPAddressUnusable},
		{ipName, "\xc0\x00\x02", csr.ReasonIPAddressLength},
		{ipName, "\xc0\x00\x02\x01\xff\xff\xff\x00", csr.ReasonIPAddressLength}, // an address and a mask, as in name constraints
		{ipName, "192.0.2.1", csr.ReasonIPAddressLength},
		{ipName, "", csr.ReasonIPAddressLength},
	}
	for text, want := range map[string]string{
		"10.1.2.3": permitted, "fd00::7": permitted, // the pod's own
		"10.1.2.4": denied, "fd00::8": denied, "127.0.0.1": denied, "::1": denied, "169.254.169.254": denied,
		"192.0.2.0": permitted, "192.0.2.255": permitted, "192.0.1.255": denied, "192.0.3.0": denied,
		"2001:db8::": permitted, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": permitted, "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff": denied, "2001:db9::": denied,
		"198.51.100.7": permitted, "198.51.100.6": denied, "198.51.100.8": denied,
		"::ffff:192.0.2.1": csr.ReasonIPAddressMapped, "::ffff:10.1.2.3": csr.ReasonIPAddressMapped,
		"::192.0.2.1": denied, "64:ff9b::192.0.2.1": denied, "2002:c000:201::": denied, // compatible, NAT64 and 6to4 are addresses of their own
		"::": csr.ReasonIPAddressUnusable, "224.0.0.1": csr.ReasonIPAddressUnusable, "ff02::1": csr.ReasonIPAddressUnusable, "255.255.255.255": csr.ReasonIPAddressUnusable,
	} {
		cases = append(cases, nameCase{ipName, string(netip.MustParseAddr(text).AsSlice()), want})
	}
	checkNames(t, cases)
}

func TestEmailAddressesThatEvade(t *testing.T) {
	cases := []nameCase{}
	for value, want := range map[string]string{
		"desk@example.com": permitted, "anybody@team.example.com": permitted, "any+body@team.example.com": permitted, "*@team.example.com": permitted,
		"DESK@example.com": denied, "desk+x@example.com": denied, "desk@team.example.org": denied, "desk@a.example.com": denied, "desk@evil-example.com": denied,
		"desk@example.com.evil.org": denied, "a@b.team.example.com": denied,
		"desk@EXAMPLE.com": csr.ReasonEmail, "desk@example.com.": csr.ReasonEmail, "desk@@example.com": csr.ReasonEmail, "desk@evil.org@example.com": csr.ReasonEmail,
		`"desk@example.com"@evil.org`: csr.ReasonEmail, "desk(x)@example.com": csr.ReasonEmail, "Desk <desk@example.com>": csr.ReasonEmail, "<desk@example.com>": csr.ReasonEmail,
		"desk@example.com,desk@evil.org": csr.ReasonEmail, "desk@example.com\x00@evil.org": csr.ReasonEmail, "desk\n@example.com": csr.ReasonEmail, " desk@example.com": csr.ReasonEmail,
		"@team.example.com": csr.ReasonEmail, ".@team.example.com": csr.ReasonEmail, "a..b@team.example.com": csr.ReasonEmail, "desk@[192.0.2.1]": csr.ReasonEmail, "desk@192.0.2.1": csr.ReasonEmail,
		"desk@*.example.com": csr.ReasonEmail, "mailto:desk@example.com": csr.ReasonEmail, "desk%40example.com": csr.ReasonEmail, "d\u00e9sk@team.example.com": csr.ReasonEmail, "": csr.ReasonEmail,
	} {
		cases = append(cases, nameCase{emailName, value, want})
	}
	checkNames(t, cases)
}
