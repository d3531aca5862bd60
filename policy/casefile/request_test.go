// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package casefile

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy"
)

func readRequest(t *testing.T, text string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	object, err := ReadRequest("r.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestRequestInWordsAsksForAllOfIt(t *testing.T) {
	t.Parallel()
	req, err := csr.Parse(readRequest(t, `
name: web
signerName: example.com/internal
requester: {username: "system:serviceaccount:shop:web", extra: {a: [b]}}
dnsNames: [web.shop.svc, "*.example.com"]
ipAddresses: [10.0.0.7, "2001:db8::1"]
uris: [spiffe://example.com/ns/shop]
emailAddresses: [ops@example.com]
commonName: web
subject: {organizations: [Example], countries: [DE], serialNumbers: ["7"]}
usages: [server auth, digital signature]
key: {algorithm: ECDSA, size: 384}
duration: 90m
isCA: true
`))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		req.Name, req.SignerName, req.Requester.Username, req.Requester.Groups, req.DNSNames, req.IPAddresses, req.URIs[0].String(), req.EmailAddresses,
		req.Subject.CommonName, req.Subject.Organization, req.Subject.Country, req.Subject.SerialNumber, req.Usages, req.Key, req.Duration.String(), req.IsCA,
	}
	want := []any{
		"web", "example.com/internal", "system:serviceaccount:shop:web",
		[]string{"system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"},
		[]string{"web.shop.svc", "*.example.com"},
		[]netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("2001:db8::1")},
		"spiffe://example.com/ns/shop",
		[]string{"ops@example.com"},
		"web",
		[]string{"Example"},
		[]string{"DE"},
		"7",
		[]certificatesv1.KeyUsage{certificatesv1.UsageServerAuth, certificatesv1.UsageDigitalSignature},
		csr.Key{Algorithm: "ECDSA", Size: 384},
		"1h30m0s", true,
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("value %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

// A request in words can say what the parser refuses: nothing on the way corrects it.
func TestRequestInWordsReachesTheParserAsItStands(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, reason string }{
		"trailing dot":     {`{dnsNames: [web.example.com.], usages: [server auth]`, csr.ReasonDNSNameTrailingDot},
		"raw UTF-8":        {`{dnsNames: [büro.example.com], usages: [server auth]`, csr.ReasonDNSNameCharacter},
		"upper case":       {`{dnsNames: [WEB.example.com], usages: [server auth]`, csr.ReasonDNSNameCharacter},
		"dot segments":     {`{uris: ["spiffe://example.com/a/../b"], usages: [server auth]`, csr.ReasonSPIFFEID},
		"mapped address":   {`{ipAddresses: ["::ffff:10.0.0.1"], usages: [server auth]`, csr.ReasonIPAddressMapped},
		"unknown usage":    {`{usages: [anything]`, csr.ReasonUnknownUsage},
		"no usages":        {`{usages: []`, csr.ReasonNoUsages},
		"short duration":   {`{usages: [server auth], duration: 10s`, csr.ReasonExpirationTooShort},
		"short RSA key":    {`{usages: [server auth], key: {algorithm: RSA, size: 1024}`, csr.ReasonKeySize},
		"common name":      {`{usages: [server auth], commonName: "` + strings.Repeat("a", 65) + `"`, csr.ReasonCommonNameLength},
		"escape sequences": {`{usages: [server auth], commonName: "\e[2J"`, csr.ReasonSubjectText},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := readRequest(t, tc.text+", signerName: a.b/c, requester: {username: alice}}")
			_, err := csr.Parse(object)
			var refusal *csr.Refusal
			if !errors.As(err, &refusal) || refusal.Reason != tc.reason {
				t.Errorf("got %v, want the reason %s", err, tc.reason)
			}
		})
	}
}

func TestKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]csr.Key{
		"{}":                           {Algorithm: "ECDSA", Size: 256},
		"{size: 521}":                  {Algorithm: "ECDSA", Size: 521},
		"{algorithm: Ed25519}":         {Algorithm: "Ed25519", Size: 256},
		"{algorithm: RSA}":             {Algorithm: "RSA", Size: 2048},
		"{algorithm: RSA, size: 3072}": {Algorithm: "RSA", Size: 3072},
	} {
		req, err := csr.Parse(readRequest(t, "{usages: [server auth], signerName: a.b/c, requester: {username: alice}, key: "+text+"}"))
		if err != nil || req.Key != want {
			t.Errorf("%s: got %v and %v, want %v", text, req.Key, err, want)
		}
	}
}

func TestReadRequestRefuses(t *testing.T) {
	t.Parallel()
	const rest = ", usages: [server auth], signerName: a.b/c, requester: {username: alice}}"
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":     {"{dnsName: a" + rest, "r.yaml:1: dnsName: no such field"},
		"no requester":      {"{usages: [server auth]}", "requester.username: must be set"},
		"unknown algorithm": {"{key: {algorithm: DSA}" + rest, `key.algorithm "DSA": must be ECDSA, Ed25519 or RSA`},
		"size of ECDSA":     {"{key: {size: 224}" + rest, "key.size 224: must be 256, 384 or 521"},
		"size of Ed25519":   {"{key: {algorithm: Ed25519, size: 512}" + rest, "key.size 512: must be 256 or left out"},
		"size of RSA":       {"{key: {algorithm: RSA, size: 99999}" + rest, "key.size 99999: must be a multiple of 8"},
		"IP address":        {"{ipAddresses: [a.b]" + rest, `ipAddresses[0] "a.b": must be an IP address`},
		"duration":          {"{duration: 1.5s" + rest, "duration 1.5s: must be of whole seconds"},
		"long duration":     {"{duration: 1000000h" + rest, "duration 1000000h0m0s: must be at most 68 years"},
		"serial numbers":    {"{subject: {serialNumbers: [a, b]}" + rest, "subject.serialNumbers: a subject has one at the most"},
		"two documents":     {"a: 1\n---\nb: 1\n", "r.yaml: has 2 documents; it must be one"},
		"another kind":      {"kind: Pod\napiVersion: v1\n", `r.yaml:1: kind: is "Pod"`},
		"no spec.request":   {"kind: CertificateSigningRequest\napiVersion: certificates.k8s.io/v1\nspec: {}\n", "spec.request: must be set"},
		"field of the kind": {"kind: CertificateSigningRequest\napiVersion: certificates.k8s.io/v1\nspec: {signer: a}\n", "r.yaml:3: spec.signer: no such field"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadRequest("r.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestReadRequestTakesPEM(t *testing.T) {
	t.Parallel()
	object := readRequest(t, "{usages: [server auth], signerName: a.b/c, requester: {username: alice}}")
	fromPEM := readRequest(t, string(object.Spec.Request))
	if !slices.Equal(fromPEM.Spec.Request, object.Spec.Request) || fromPEM.Spec.SignerName != "" {
		t.Error("PEM did not become spec.request alone")
	}
}

func TestStamp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		requester csr.Requester
		want      []string
	}{
		"a person":                   {csr.Requester{Username: "alice"}, []string{"system:authenticated"}},
		"a person with groups":       {csr.Requester{Username: "alice", Groups: []string{"ops"}}, []string{"ops", "system:authenticated"}},
		"a service account":          {csr.Requester{Username: "system:serviceaccount:a:b"}, []string{"system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"}},
		"a service account's groups": {csr.Requester{Username: "system:serviceaccount:a:b", Groups: []string{"x"}}, []string{"x", "system:authenticated"}},
		"nothing is added twice":     {csr.Requester{Username: "alice", Groups: []string{"system:authenticated"}}, []string{"system:authenticated"}},
	} {
		var object certificatesv1.CertificateSigningRequest
		Stamp(&object, tc.requester)
		if !slices.Equal(object.Spec.Groups, tc.want) || object.Spec.Username != tc.requester.Username {
			t.Errorf("%s: got %v, want %v", name, object.Spec.Groups, tc.want)
		}
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	web := csr.Requester{Username: "system:serviceaccount:shop:web"}
	facts, err := ReadFacts("f.yaml", []byte(`
clusterDomain: example.org
namespace: {name: shop, labels: {team: a}}
pod:
  name: web-0
  labels: {app: web}
  annotations: {note: x}
  node: n1
  owner: {apiVersion: apps/v1, kind: StatefulSet, name: web}
  hostname: web-0
  subdomain: peers
  ips: ["::ffff:10.0.0.7", "2001:db8::1"]
services: [{name: peers, headless: true}, {name: web}]
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := facts.For(web)
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Facts{
		TrustDomain: "cluster.local", ClusterDomain: "example.org",
		Namespace: &policy.Namespace{Name: "shop", Labels: map[string]string{"team": "a"}},
		Pod: &policy.Pod{
			Name: "web-0", Hostname: "web-0", Subdomain: "peers", Node: "n1",
			IPs:    []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("2001:db8::1")},
			Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "x"},
			Owner: &policy.Owner{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web"},
		},
		Services: []policy.Service{{Name: "peers", Headless: true}, {Name: "web"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}

	var none *Facts
	if got, err := none.For(web); err != nil || got.Namespace == nil || got.Namespace.Name != "shop" || got.Pod != nil {
		t.Errorf("no facts about a service account: got %+v and %v", got, err)
	}
	if got, err := none.For(csr.Requester{Username: "alice"}); err != nil || got.Namespace != nil {
		t.Errorf("no facts about a person: got %+v and %v", got, err)
	}
}

func TestFactsRefuse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ user, text, want string }{
		"another namespace":    {"system:serviceaccount:shop:web", "namespace: {name: bank}", `namespace.name "bank": must be that of the requester`},
		"a person's namespace": {"alice", "namespace: {name: shop}", `namespace.name "shop": must be that of the requester`},
		"a person's pod":       {"alice", "pod: {name: a}", "pod: the requester must be a service account"},
		"pod and problem":      {"system:serviceaccount:shop:web", "{pod: {name: a}, podProblem: gone}", "pod: set pod or podProblem"},
		"services without pod": {"system:serviceaccount:shop:web", "services: [{name: a}]", "services: set pod as well"},
		"pod without name":     {"system:serviceaccount:shop:web", "pod: {ips: [10.0.0.1]}", "pod.name: must be set"},
		"pod's address":        {"system:serviceaccount:shop:web", "pod: {name: a, ips: [10.0.0.1, x]}", `pod.ips[1] "x": must be an IP address`},
		"service without name": {"system:serviceaccount:shop:web", "{pod: {name: a}, services: [{headless: true}]}", "services[0].name: must be set"},
		"trust domain":         {"alice", "trustDomain: a..b", `trustDomain "a..b"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts, err := ReadFacts("f.yaml", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := facts.For(csr.Requester{Username: tc.user}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	for _, text := range []string{"pods: {}", "a: 1\n---\nb: 1"} {
		if _, err := ReadFacts("f.yaml", []byte(text)); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}
