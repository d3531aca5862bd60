// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/reload"
)

const signer = "example.com/internal"

func defaults() Ask {
	return Ask{
		SignerName: signer, Delivery: DeliveryAuto, Duration: 24 * time.Hour, KeyAlgorithm: "ECDSA-P256",
		MountPath: "/var/run/secrets/certwright.dev/tls",
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
		"uris":             {map[string]string{URIs: "spiffe://a/b"}, func(a *Ask) { a.URIs = []string{"spiffe://a/b"} }},
		"ip addresses":     {map[string]string{IPAddresses: "pod, ::1"}, func(a *Ask) { a.IPAddresses = []string{"pod", "::1"} }},
		"delivery auto":    {map[string]string{Delivery: "auto"}, nil},
		"delivery agent":   {map[string]string{Delivery: "agent"}, func(a *Ask) { a.Delivery = DeliveryAgent }},
		"by the kubelet":   {map[string]string{Delivery: "kubelet"}, func(a *Ask) { a.Delivery = DeliveryKubelet }},
		"delivery init":    {map[string]string{Delivery: "init"}, func(a *Ask) { a.Delivery = DeliveryInit }},
		"least duration":   {map[string]string{Duration: "10m"}, func(a *Ask) { a.Duration = 10 * time.Minute }},
		"key algorithm":    {map[string]string{KeyAlgorithm: "Ed25519"}, func(a *Ask) { a.KeyAlgorithm = "Ed25519" }},
		"mount path":       {map[string]string{MountPath: "/tls"}, func(a *Ask) { a.MountPath = "/tls" }},
		"containers":       {map[string]string{Containers: "a,b"}, func(a *Ask) { a.Containers = []string{"a", "b"} }},
		"usages":           {map[string]string{Usages: "client auth,digital signature"}, func(a *Ask) { a.Usages = []string{"client auth", "digital signature"} }},
		"usages with RSA":  {map[string]string{Usages: "client auth", KeyAlgorithm: "RSA-2048"}, func(a *Ask) { a.Usages, a.KeyAlgorithm = []string{"client auth"}, "RSA-2048" }},
		"RSA":              {map[string]string{KeyAlgorithm: "RSA-4096"}, func(a *Ask) { a.KeyAlgorithm = "RSA-4096" }},
		"longest duration": {map[string]string{Duration: "596523h14m7s"}, func(a *Ask) { a.Duration = maxDuration }},
		"more trust":       {map[string]string{Trust: "a.b/c, a.b/d,a.b/c"}, func(a *Ask) { a.Trust = []string{"a.b/c", "a.b/d"} }},
		"its own trust":    {map[string]string{Trust: signer}, func(a *Ask) { a.Trust = []string{} }},
		"variables": {map[string]string{TrustEnv: "NODE_EXTRA_CA_CERTS, SSL_CERT_FILE"}, func(a *Ask) {
			a.TrustEnv = []Variable{{"SSL_CERT_FILE", true}, {"NODE_EXTRA_CA_CERTS", false}}
		}},
		"all variables":   {map[string]string{TrustEnv: "true"}, func(a *Ask) { a.TrustEnv = variables }},
		"formats":         {map[string]string{Formats: "JKS,PEM"}, func(a *Ask) { a.Formats = []string{"JKS", "PEM"} }},
		"signal":          {map[string]string{ReloadSignal: "nginx=HUP"}, func(a *Ask) { a.Reload = reload.Actions{Process: "nginx", Signal: "HUP"} }},
		"URL":             {map[string]string{ReloadURL: "http://[::1]:80/x"}, func(a *Ask) { a.Reload.URL = "http://[::1]:80/x" }},
		"command":         {map[string]string{ReloadCommand: `["/reload/x", "a,b"]`}, func(a *Ask) { a.Reload.Command = []string{"/reload/x", "a,b"} }},
		"command, volume": {map[string]string{ReloadCommand: `["/reload/x"]`, ReloadVolume: "tools"}, func(a *Ask) { a.Reload.Command, a.ReloadVolume = []string{"/reload/x"}, "tools" }},
		"socket":          {map[string]string{SPIFFESocket: "true"}, func(a *Ask) { a.SPIFFESocket = true }},
		"least port":      {map[string]string{MetricsPort: "1024"}, func(a *Ask) { a.MetricsPort = 1024 }},
		"metrics":         {map[string]string{MetricsPort: "9402"}, func(a *Ask) { a.MetricsPort = 9402 }},
		"renew":           {map[string]string{Renew: "2026-01-02T15:04:05+01:00"}, nil},
		"delivered by":    {map[string]string{DeliveredBy: "\x00, whatever a pod says"}, nil},
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

// known are all annotations.
const known = "certwright.dev/auto-tls, certwright.dev/containers, certwright.dev/delivered-by, certwright.dev/delivery, certwright.dev/dns-names, " +
	"certwright.dev/duration, certwright.dev/formats, certwright.dev/ip-addresses, certwright.dev/key-algorithm, certwright.dev/metrics-port, " +
	"certwright.dev/mount-path, certwright.dev/reload-command, certwright.dev/reload-signal, certwright.dev/reload-url, certwright.dev/reload-volume, " +
	"certwright.dev/renew, certwright.dev/spiffe-socket, certwright.dev/trust, certwright.dev/trust-env, certwright.dev/trust-mount-path, " +
	"certwright.dev/uris, certwright.dev/usages"

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
		trustAllowed    = "use 1 to 15 signer names such as example.com/internal, separated by commas"
		signals         = "use PROCESS=SIGNAL such as nginx=HUP, SIGNAL one of HUP, INT, QUIT, TERM, USR1, USR2, WINCH"
		envAllowed      = "use true for all, or one or more of SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, AWS_CA_BUNDLE, GIT_SSL_CAINFO, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, NODE_EXTRA_CA_CERTS"
		urlAllowed      = "use http://localhost:PORT/PATH, with 127.0.0.1 or [::1] for localhost if wanted: what listens in the pod itself"
		array           = "use a JSON array of strings, such as [\"/reload/notify\", \"--now\"]"
		port            = "use a port from 1024 to 65535"
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
		"empty delivery":      {Delivery, "", `"" is not allowed, use auto, agent, init or kubelet`},
		"sidecar":             {Delivery, "sidecar", `"sidecar" is not allowed, use auto, agent, init or kubelet`},
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
		"no trust":            {Trust, "", `"" is not allowed, ` + trustAllowed},
		"trust of no signer":  {Trust, "a.b/c,x", `"x" is not allowed, ` + signerAllowed},
		"Kubernetes' trust":   {Trust, "kubernetes.io/x", `"kubernetes.io/x" is not allowed, ` + own},
		"no variables":        {TrustEnv, "", `"" is not allowed, ` + envAllowed},
		"unknown variable":    {TrustEnv, "SSL_CERT_FILE,LD_PRELOAD", `"LD_PRELOAD" is not allowed, ` + envAllowed},
		"all and one":         {TrustEnv, "true,SSL_CERT_FILE", `"true,SSL_CERT_FILE" is not allowed, ` + envAllowed},
		"no format":           {Formats, " ", `" " is not allowed, use one or more of PKCS12, JKS, PEM`},
		"unknown format":      {Formats, "p12", `"p12" is not allowed, use one of PKCS12, JKS, PEM`},
		"no signal":           {ReloadSignal, "nginx", `"nginx" is not allowed, ` + signals},
		"KILL":                {ReloadSignal, "nginx=KILL", `"nginx=KILL" is not allowed, ` + signals},
		"SIGHUP":              {ReloadSignal, "nginx=SIGHUP", `"nginx=SIGHUP" is not allowed, ` + signals},
		"no process":          {ReloadSignal, "=HUP", `"" is not allowed, use the name of a process as in /proc/PID/comm, 1 to 15 characters: the kernel cuts longer ones after 15`},
		"path of a process":   {ReloadSignal, "/bin/x=HUP", `"/bin/x" is not allowed, use printable ASCII without slashes or space around it`},
		"URL elsewhere":       {ReloadURL, "http://example.com:80/", `"http://example.com:80/" is not allowed, ` + urlAllowed},
		"URL of the node":     {ReloadURL, "http://169.254.169.254:80/", `"http://169.254.169.254:80/" is not allowed, ` + urlAllowed},
		"URL with a user":     {ReloadURL, "http://localhost:80@example.com:80/", `"http://localhost:80@example.com:80/" is not allowed, ` + urlAllowed},
		"URL like localhost":  {ReloadURL, "http://localhost.example.com:80/", `"http://localhost.example.com:80/" is not allowed, ` + urlAllowed},
		"URL without port":    {ReloadURL, "http://localhost/", `"http://localhost/" is not allowed, ` + urlAllowed},
		"URL of a file":       {ReloadURL, "file:///etc/passwd", `"file:///etc/passwd" is not allowed, ` + urlAllowed},
		"shell":               {ReloadCommand, "/reload/x -y", `"/reload/x -y" is not allowed, ` + array},
		"null":                {ReloadCommand, "null", `"null" is not allowed, use 1 to 64 arguments`},
		"relative program":    {ReloadCommand, `["x"]`, `"[\"x\"]" is not allowed, use the absolute path of a program, such as /reload/notify, and its arguments`},
		"socket elsewhere":    {SPIFFESocket, "/tmp/x", `"/tmp/x" is not allowed, use true, or leave the annotation out`},
		"privileged port":     {MetricsPort, "80", `"80" is not allowed, ` + port},
		"no port":             {MetricsPort, "65536", `"65536" is not allowed, ` + port},
		"renewed when":        {Renew, "now", `"now" is not allowed, use a time such as 2026-01-02T15:04:05Z (RFC 3339)`},
		"volume alone":        {ReloadVolume, "tools", "means nothing without certwright.dev/reload-command, leave it out or set that to a program below /reload"},
		"path of bundles":     {TrustMountPath, "/x", "is for pods without certwright.dev/auto-tls, leave it out: the trust anchors are in ca.crt beside the certificate"},
		"unknown annotation":  {Prefix + "dns-name", "x", "unknown, use one of " + known},
		"long value":          {Delivery, strings.Repeat("x", 5000), `"` + strings.Repeat("x", 97) + `…" is not allowed, use auto, agent, init or kubelet`},
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
	if text := err.Error(); !strings.HasSuffix(text, "; annotation certwright.dev/auto-tls: missing, set it to a signer name such as example.com/internal") {
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
				Directory: DefaultMountPath, TrustBundleFiles: []string{"/trust/ca.crt"},
			}
			if err := config.Validate(); err != nil {
				t.Errorf("the agent does not take it: %v", err)
			}
		}
	}
	if DefaultDuration != time.Duration(agent.DefaultDuration) || DefaultKeyAlgorithm != agent.DefaultKeyAlgorithm ||
		!slices.Equal(DefaultUsages(DefaultKeyAlgorithm), agent.DefaultUsages()) {
		t.Error("the defaults of webhook and agent differ")
	}
}

func TestMostTrust(t *testing.T) {
	of := func(n int) map[string]string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("a.b/c%d", i)
		}
		return map[string]string{Trust: strings.Join(list, ",")}
	}
	if ask, err := Parse(of(15)); err != nil || len(ask.Trust) != 15 {
		t.Errorf("15: %v", err)
	}
	if _, err := Parse(of(16)); err == nil || !strings.Contains(err.Error(), "is not allowed, use 1 to 15 signer names") {
		t.Errorf("16: %v", err)
	}
}

// All variables but one replace the roots of a program, so they need the public ones.
func TestVariablesThatReplace(t *testing.T) {
	for _, v := range variables {
		if v.Replaces != (v.Name != "NODE_EXTRA_CA_CERTS") {
			t.Errorf("%+v", v)
		}
	}
}

func TestDefaultUsages(t *testing.T) {
	for algorithm, want := range map[string]int{"ECDSA-P256": 3, "Ed25519": 3, "RSA-2048": 4} {
		if got := DefaultUsages(algorithm); len(got) != want || slices.Contains(got, "key encipherment") != (want == 4) {
			t.Errorf("%s: %v", algorithm, got)
		}
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
			Directory: ask.MountPath, TrustBundleFiles: []string{"/trust/ca.crt"},
		}
		if err := config.Validate(); err != nil {
			t.Fatalf("accepted what the agent refuses: %v", err)
		}
	})
}
