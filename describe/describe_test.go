// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
)

func extra(pod, node string) map[string]certificatesv1.ExtraValue {
	return map[string]certificatesv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {pod}, "authentication.kubernetes.io/pod-uid": {"uid"}, "authentication.kubernetes.io/node-name": {node},
	}
}

func parseURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestReview(t *testing.T) {
	for name, c := range map[string]struct {
		req  csr.Request
		want string
	}{
		"all there is": {csr.Request{
			Name: "web-1", SignerName: "example.com/internal",
			Requester:   csr.Requester{Username: "system:serviceaccount:shop:web", Extra: extra("web-0", "node-1")},
			DNSNames:    []string{"web.shop.svc", "*.example.com"},
			IPAddresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")},
			URIs:        []*url.URL{parseURL(t, "spiffe://example.com/ns/shop")}, EmailAddresses: []string{"ops@example.com"},
			Subject:  pkix.Name{CommonName: "web", Organization: []string{"Example Inc.", "b"}, SerialNumber: "7"},
			Usages:   []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
			Duration: 90 * time.Minute, IsCA: true, Key: csr.Key{Algorithm: csr.AlgorithmRSA, Size: 2048},
		}, `CertificatePolicy people permits this request if a person approves it.
Signer: example.com/internal
Asked by: service account web of namespace shop, pod web-0 on node node-1
CA: yes, it can sign other certificates
DNS names: web.shop.svc, *.example.com
IP addresses: 10.0.0.1, 2001:db8::1
URIs: spiffe://example.com/ns/shop
Email addresses: ops@example.com
Subject: CN=web, O="Example Inc.", O=b, serialNumber=7
Usages: digital signature, server auth
Lifetime: 1h30m0s
Key: RSA of 2048 bits
To approve: kubectl certificate approve web-1
To deny: kubectl certificate deny web-1`},
		"as little as there can be": {csr.Request{
			Name: "me", SignerName: "example.com/internal", Requester: csr.Requester{Username: "alice"},
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}, Key: csr.Key{Algorithm: csr.AlgorithmEd25519, Size: 256},
		}, `CertificatePolicy people permits this request if a person approves it.
Signer: example.com/internal
Asked by: user alice
Usages: client auth
Lifetime: what the signer gives
Key: Ed25519 of 256 bits
To approve: kubectl certificate approve me
To deny: kubectl certificate deny me`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Review(c.req, "people"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestRequester(t *testing.T) {
	for want, r := range map[string]csr.Requester{
		"user alice":                      {Username: "alice"},
		`user "alice, pod web-0"`:         {Username: "alice, pod web-0"},
		`user "a\x1b[2J\nTo approve: rm"`: {Username: "a\x1b[2J\nTo approve: rm"},
		`user ""`:                         {},
		`user system:serviceaccount:a`:    {Username: "system:serviceaccount:a"},
		`user "\u202egnp.exe"`:            {Username: "\u202egnp.exe"},
		`user "p\u0430ypal"`:              {Username: "p\u0430ypal"}, // with a Cyrillic letter
		`user "-rf"`:                      {Username: "-rf"},
		"service account a of namespace b, with a token of no pod": {Username: "system:serviceaccount:b:a"},
		"service account a of namespace b, pod c":                  {Username: "system:serviceaccount:b:a", Extra: extra("c", "")},
	} {
		if got := Requester(r); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestCommands(t *testing.T) {
	long := strings.Repeat("a", 300)
	for name, note := range map[string]string{
		"web": "", "Node-1_a.b:c": "", strings.Repeat("a", 253): "",
		"x; rm -rf ~":    `"x; rm -rf ~"`,
		"$(reboot)":      `"$(reboot)"`,
		"--all":          `"--all"`,
		"a b":            `"a b"`,
		"a\nkubectl":     `"a\nkubectl"`,
		"web\u202etxt.x": `"web\u202etxt.x"`,
		"":               `""`,
		long:             `"` + long[:99] + `"[... 300 bytes in all ...]"` + long[:99] + `"`,
	} {
		wantApprove, wantDeny := "kubectl certificate approve "+name, "kubectl certificate deny "+name
		if note != "" {
			note = ", where NAME is " + note + ", to be quoted with care"
			wantApprove, wantDeny = "kubectl certificate approve NAME"+note, "kubectl certificate deny NAME"+note
		}
		if approve, deny := Commands(name); approve != wantApprove || deny != wantDeny {
			t.Errorf("%q: got\n%s\n%s\nwant\n%s\n%s", name, approve, deny, wantApprove, wantDeny)
		}
	}
}

// hostile is as long and as strange as a requester can make it.
func hostile(t *testing.T, bad string) csr.Request {
	long := func(n int) string { return strings.Repeat(bad, n/len(bad)+1)[:n] }
	req := csr.Request{
		Name: long(4000), SignerName: long(571), IsCA: true, Duration: time.Duration(1<<63 - 1), Key: csr.Key{Algorithm: csr.AlgorithmECDSA, Size: 521},
		Requester: csr.Requester{Username: "system:serviceaccount:" + strings.Repeat("n", 63) + ":" + strings.Repeat("s", 253), Extra: extra(long(253), long(253))},
		Subject:   pkix.Name{CommonName: long(64), Organization: []string{long(5000), long(5000), long(100)}},
		Usages: []certificatesv1.KeyUsage{
			certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
			certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
			certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
			certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME,
			certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
			certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
		},
	}
	for i := range 300 {
		req.DNSNames = append(req.DNSNames, fmt.Sprint(long(250), i))
		req.EmailAddresses = append(req.EmailAddresses, long(320))
		req.IPAddresses = append(req.IPAddresses, netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"))
		req.URIs = append(req.URIs, &url.URL{Scheme: "spiffe", Host: "example.com", Opaque: long(2000)})
	}
	return req
}

func TestHostileTextIsBoundedAndHarmless(t *testing.T) {
	for _, bad := range []string{"a", "\x1b[31m", "\n\rTo approve: ", "\u202e", "\xff\xfe", "é", "🔑", "a, ", `"`, "\x00"} {
		got := Review(hostile(t, bad), strings.Repeat("p", 253))
		if len(got) > MaxBytes {
			t.Errorf("%q: %d bytes, want at most %d", bad, len(got), MaxBytes)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
			t.Errorf("%q: holds %q", bad, got[i:i+1])
		}
		if lines := strings.Split(got, "\n"); len(lines) != 14 || !strings.HasPrefix(lines[12], "To approve: kubectl certificate approve NAME, ") {
			t.Errorf("%q: %d lines\n%s", bad, len(lines), got)
		}
		if !strings.Contains(got, "and 299 more that are not shown") {
			t.Errorf("%q: does not say what it leaves out", bad)
		}
	}
}

// Both ends of a name are shown: www.example.com.….example.org belongs to whom its end says.
func TestLongTextsShowTheirEnd(t *testing.T) {
	got := text("www.example.com." + strings.Repeat("a.", 500) + "example.org")
	if !strings.HasPrefix(got, `"www.example.com.a.`) || !strings.HasSuffix(got, `.a.example.org"`) || !strings.Contains(got, "1027 bytes") || len(got) > maxText {
		t.Error(got)
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"a.example.com", "", "a, b", "\x1b", "é", strings.Repeat("\xff", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := text(s)
		if len(got) > maxText || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q: got %q", s, got)
		}
		if got != s && (!strings.HasPrefix(got, `"`) || !strings.HasSuffix(got, `"`)) {
			t.Errorf("%q: neither plain nor quoted: %q", s, got)
		}
	})
}
