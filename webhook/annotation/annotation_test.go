// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent"
)

const signer = "example.com/internal"

func defaults() Ask {
	return Ask{
		SignerName: signer, Delivery: DeliveryAgent, Duration: 24 * time.Hour, KeyAlgorithm: "ECDSA-P256",
		Usages: []string{"digital signature", "server auth", "client auth"}, MountPath: "/var/run/secrets/certwright.dev/tls",
	}
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		annotations map[string]string // besides auto-tls
		want        func(*Ask)
	}{
		"defaults":                   {},
		"other prefixes are ignored": {map[string]string{"example.com/dns-names": "x", "certwright.dev": "x", "my.certwright.dev/x": "x"}, nil},
		"dns names": {map[string]string{DNSNames: " a.example.com,*.b.example.com , a.example.com"}, func(a *Ask) {
			a.DNSNames = []string{"a.example.com", "*.b.example.com"}
		}},
		"no names": {map[string]string{DNSNames: "", URIs: " ", IPAddresses: ""}, func(a *Ask) {
			a.DNSNames, a.URIs, a.IPAddresses = []string{}, []string{}, []string{}
		}},
		"uris":            {map[string]string{URIs: "spiffe://a/b"}, func(a *Ask) { a.URIs = []string{"spiffe://a/b"} }},
		"ip addresses":    {map[string]string{IPAddresses: "pod, ::1"}, func(a *Ask) { a.IPAddresses = []string{"pod", "::1"} }},
		"delivery auto":   {map[string]string{Delivery: "auto"}, nil},
		"delivery agent":  {map[string]string{Delivery: "agent"}, nil},
		"delivery init":   {map[string]string{Delivery: "init"}, func(a *Ask) { a.Delivery = DeliveryInit }},
		"least duration":  {map[string]string{Duration: "10m"}, func(a *Ask) { a.Duration = 10 * time.Minute }},
		"key algorithm":   {map[string]string{KeyAlgorithm: "Ed25519"}, func(a *Ask) { a.KeyAlgorithm = "Ed25519" }},
		"mount path":      {map[string]string{MountPath: "/tls"}, func(a *Ask) { a.MountPath = "/tls" }},
		"containers":      {map[string]string{Containers: "a,b"}, func(a *Ask) { a.Containers = []string{"a", "b"} }},
		"usages":          {map[string]string{Usages: "client auth,digital signature"}, func(a *Ask) { a.Usages = []string{"client auth", "digital signature"} }},
		"usages with RSA": {map[string]string{Usages: "client auth", KeyAlgorithm: "RSA-2048"}, func(a *Ask) { a.Usages, a.KeyAlgorithm = []string{"client auth"}, "RSA-2048" }},
		"RSA enciphers": {map[string]string{KeyAlgorithm: "RSA-4096"}, func(a *Ask) {
			a.KeyAlgorithm, a.Usages = "RSA-4096", []string{"digital signature", "key encipherment", "server auth", "client auth"}
		}},
		"longest duration": {map[string]string{Duration: "596523h14m7s"}, func(a *Ask) { a.Duration = maxDuration }},
	} {
		t.Run(name, func(t *testing.T) {
			annotations := map[string]string{AutoTLS: signer}
			for key, value := range test.annotations {
				annotations[key] = value
			}
			want := defaults()
			if test.want != nil {
				test.want(&want)
			}
			got, err := Parse(annotations)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

const known = "certwright.dev/auto-tls, certwright.dev/containers, certwright.dev/delivery, certwright.dev/dns-names, certwright.dev/duration, " +
	"certwright.dev/ip-addresses, certwright.dev/key-algorithm, certwright.dev/mount-path, certwright.dev/uris, certwright.dev/usages"

func TestParseRefuses(t *testing.T) {
	const (
		signerAllowed   = "use a signer name: a domain, a slash and a name, in lower case, such as example.com/internal"
		dnsAllowed      = "use a DNS name in lower case of at most 253 characters, such as shop.example.com or *.example.com"
		uriAllowed      = "use an absolute URI with scheme and host and without commas, such as spiffe://example.org/ns/shop/sa/cart"
		ipAllowed       = `use an IP address without zone, or "pod" for every address of the pod`
		durationAllowed = "use a duration of whole seconds, at least 10m, such as 24h or 90m"
		pathAllowed     = "use a clean absolute path other than / and without colons, such as /var/run/secrets/certwright.dev/tls"
		own             = "use a signer outside kubernetes.io, whose signers belong to Kubernetes itself"
		keys            = "use one of ECDSA-P256, ECDSA-P384, ECDSA-P521, Ed25519, RSA-2048, RSA-3072, RSA-4096"
		names           = "use names of containers, separated by commas"
		label64         = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	)
	usage := "use one of " + strings.Join(usages, ", ")
	for name, test := range map[string]struct{ key, value, want string }{
		"empty signer":        {AutoTLS, "", `"" is not allowed, ` + signerAllowed},
		"true":                {AutoTLS, "true", `"true" is not allowed, ` + signerAllowed},
		"unqualified domain":  {AutoTLS, "example/x", `"example/x" is not allowed, ` + signerAllowed},
		"two slashes":         {AutoTLS, "example.com/a/b", `"example.com/a/b" is not allowed, ` + signerAllowed},
		"kubernetes.io":       {AutoTLS, "kubernetes.io/kubelet-serving", `"kubernetes.io/kubelet-serving" is not allowed, ` + own},
		"below kubernetes.io": {AutoTLS, "x.kubernetes.io/a", `"x.kubernetes.io/a" is not allowed, ` + own},
		"upper case DNS":      {DNSNames, "Shop.example.com", `"Shop.example.com" is not allowed, ` + dnsAllowed},
		"template":            {DNSNames, "{service}.svc", `"{service}.svc" is not allowed, ` + dnsAllowed},
		"inner wildcard":      {DNSNames, "a.*.example.com", `"a.*.example.com" is not allowed, ` + dnsAllowed},
		"long label":          {DNSNames, label64, `"` + label64 + `" is not allowed, ` + dnsAllowed},
		"trailing comma":      {DNSNames, "a.example.com,", `"" is not allowed, ` + dnsAllowed},
		"newline":             {DNSNames, "a.example.com\nb", `"a.example.com\nb" is not allowed, ` + dnsAllowed},
		"URI without host":    {URIs, "urn:x", `"urn:x" is not allowed, ` + uriAllowed},
		"URI with space":      {URIs, "spiffe://a/b c", `"spiffe://a/b c" is not allowed, ` + uriAllowed},
		"template URI":        {URIs, "spiffe://{trustDomain}/x", `"spiffe://{trustDomain}/x" is not allowed, ` + uriAllowed},
		"not an IP":           {IPAddresses, "10.0.0", `"10.0.0" is not allowed, ` + ipAllowed},
		"zone":                {IPAddresses, "fe80::1%eth0", `"fe80::1%eth0" is not allowed, ` + ipAllowed},
		"kubelet":             {Delivery, "kubelet", `"kubelet" is not supported yet, use agent (a sidecar that renews) or init (an init container, no renewal)`},
		"empty delivery":      {Delivery, "", `"" is not allowed, use auto, agent or init`},
		"sidecar":             {Delivery, "sidecar", `"sidecar" is not allowed, use auto, agent or init`},
		"too short":           {Duration, "9m59s", `"9m59s" is not allowed, ` + durationAllowed},
		"days":                {Duration, "1d", `"1d" is not allowed, ` + durationAllowed},
		"number":              {Duration, "3600", `"3600" is not allowed, ` + durationAllowed},
		"split second":        {Duration, "10m0.5s", `"10m0.5s" is not allowed, ` + durationAllowed},
		"too long":            {Duration, "596523h14m8s", `"596523h14m8s" is not allowed, ` + durationAllowed},
		"small RSA":           {KeyAlgorithm, "RSA-1024", `"RSA-1024" is not allowed, ` + keys},
		"empty algorithm":     {KeyAlgorithm, "", `"" is not allowed, ` + keys},
		"no usages":           {Usages, "", `"" is not allowed, use at least one of ` + strings.Join(usages, ", ")},
		"unknown usage":       {Usages, "server auth,serverAuth", `"serverAuth" is not allowed, ` + usage},
		"relative path":       {MountPath, "tls", `"tls" is not allowed, ` + pathAllowed},
		"unclean path":        {MountPath, "/a/../b", `"/a/../b" is not allowed, ` + pathAllowed},
		"trailing slash":      {MountPath, "/tls/", `"/tls/" is not allowed, ` + pathAllowed},
		"root":                {MountPath, "/", `"/" is not allowed, ` + pathAllowed},
		"colon":               {MountPath, "/a:b", `"/a:b" is not allowed, ` + pathAllowed},
		"no containers":       {Containers, "", `"" is not allowed, use the names of one or more containers of the pod, or leave the annotation out for all of them`},
		"bad container":       {Containers, "a b", `"a b" is not allowed, ` + names},
		"unknown annotation":  {Prefix + "dns-name", "x", "unknown, use one of " + known},
		"long value":          {Delivery, strings.Repeat("x", 5000), `"` + strings.Repeat("x", 97) + `…" is not allowed, use auto, agent or init`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(map[string]string{AutoTLS: signer, test.key: test.value})
			var refusal Refusal
			if !errors.As(err, &refusal) || len(refusal) != 1 {
				t.Fatalf("got %v, want a refusal with one reason", err)
			}
			if want := "annotation " + test.key + ": " + test.want; refusal[0] != want {
				t.Errorf("got  %s\nwant %s", refusal[0], want)
			}
		})
	}
}

func TestRefusalNamesEverythingAtOnce(t *testing.T) {
	_, err := Parse(map[string]string{
		Delivery: "x", Duration: "y", DNSNames: "A,b.example.com,C", Prefix + "z": "",
	})
	var refusal Refusal
	if !errors.As(err, &refusal) || len(refusal) != 6 { // auto-tls missing, two names, and three more
		t.Fatalf("got %d reasons, want 6: %v", len(refusal), err)
	}
	if text := err.Error(); !strings.HasPrefix(text, "this pod cannot get a certificate: annotation certwright.dev/auto-tls: missing") {
		t.Errorf("unexpected text %s", text)
	}
	_, err = Parse(map[string]string{AutoTLS: signer, DNSNames: strings.Repeat("A,", 7000) + "A"})
	if text := err.Error(); len(text) > 4000 || !strings.HasSuffix(text, "; and 6981 more") {
		t.Errorf("%d bytes of text, want a bounded one that counts the rest", len(text))
	}
	for length, want := range map[int]string{
		MaxBytes:     "is not allowed, use a clean absolute path",
		MaxBytes + 1: "annotation certwright.dev/mount-path: 16385 bytes long, the most is 16384",
	} {
		if _, err := Parse(map[string]string{AutoTLS: signer, MountPath: strings.Repeat("x", length)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: got %v, want %s", length, err, want)
		}
	}
}

// What the webhook offers is what the agent takes.
func TestValuesFitTheAgent(t *testing.T) {
	for _, algorithm := range keyAlgorithms {
		for _, usage := range usages {
			config := agent.Config{
				SignerName: signer, URIs: []string{"spiffe://a/b"}, KeyAlgorithm: algorithm, Usages: []string{usage},
				Directory: DefaultMountPath, TrustBundleFile: "/trust/ca.crt",
			}
			if err := config.Validate(); err != nil {
				t.Errorf("the agent does not take it: %v", err)
			}
		}
	}
	if DefaultDuration != time.Duration(agent.DefaultDuration) || DefaultKeyAlgorithm != agent.DefaultKeyAlgorithm ||
		!slices.Equal(defaultUsages(DefaultKeyAlgorithm), agent.DefaultUsages()) {
		t.Error("the defaults of webhook and agent differ")
	}
}

// Whatever the annotations say, parsing them ends, and what it accepts the agent
// accepts too.
func FuzzParse(f *testing.F) {
	f.Add(signer, "a.example.com,*.b", "spiffe://a/b", "pod,::1", "24h", "client auth", "/tls", "a")
	f.Add("a.b/c.d", "", "https://u@h:1/p?q#f,x://y", "1.2.3.4", "596523h14m7s", "any", "/a b", "x,y")
	f.Add("a.b/c", "a..b", "spiffe://[::1]/%41", "::ffff:1.2.3.4", "10m0s", "s/mime", "/\x00", "")
	f.Fuzz(func(t *testing.T, signerName, dns, uris, ips, duration, usages, mountPath, containers string) {
		ask, err := Parse(map[string]string{
			AutoTLS: signerName, DNSNames: dns, URIs: uris, IPAddresses: ips,
			Duration: duration, Usages: usages, MountPath: mountPath, Containers: containers,
		})
		if err != nil {
			var refusal Refusal
			if !errors.As(err, &refusal) || len(refusal) == 0 || len(err.Error()) > 40000 {
				t.Fatalf("not a refusal of bounded length: %v", err)
			}
			return
		}
		config := agent.Config{
			SignerName: ask.SignerName, DNSNames: ask.DNSNames, URIs: append(ask.URIs, "spiffe://a/b"), IPAddresses: ask.IPAddresses,
			Usages: ask.Usages, Duration: agent.Duration(ask.Duration), KeyAlgorithm: ask.KeyAlgorithm,
			Directory: ask.MountPath, TrustBundleFile: "/trust/ca.crt",
		}
		if err := config.Validate(); err != nil {
			t.Fatalf("accepted what the agent refuses: %v", err)
		}
	})
}
