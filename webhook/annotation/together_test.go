// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// merged is one map of several, the last one first.
func merged(maps ...map[string]string) map[string]string {
	result := map[string]string{}
	for _, m := range maps {
		for key, value := range m {
			result[key] = value
		}
	}
	return result
}

func TestTrustOnly(t *testing.T) {
	one := map[string]string{Trust: "a.b/c"}
	for name, test := range map[string]struct {
		annotations map[string]string
		path        string
	}{
		"alone":      {nil, "/var/run/secrets/certwright.dev/trust"},
		"elsewhere":  {map[string]string{TrustMountPath: "/trust"}, "/trust"},
		"everything": {map[string]string{Trust: "a.b/c,a.b/d", TrustEnv: "true", Formats: "JKS,PKCS12", Containers: "a", Delivery: "agent", ReloadURL: "http://localhost:1", MetricsPort: "9402", Renew: "2026-01-02T15:04:05Z"}, "/var/run/secrets/certwright.dev/trust"},
	} {
		t.Run(name, func(t *testing.T) {
			ask, err := Parse(merged(one, test.annotations))
			if err != nil || !ask.TrustOnly() || ask.SignerName != "" || ask.MountPath != test.path || ask.Trust[0] != "a.b/c" {
				t.Errorf("got %+v, %v", ask, err)
			}
		})
	}
}

// Annotations that mean nothing together are refused rather than ignored.
func TestTogether(t *testing.T) {
	certificate, bundles := map[string]string{AutoTLS: signer}, map[string]string{Trust: "a.b/c"}
	initial := merged(certificate, map[string]string{Delivery: "init"})
	staying := map[string]string{ReloadSignal: "x=HUP", ReloadURL: "http://localhost:1", ReloadCommand: `["/x"]`, SPIFFESocket: "true", MetricsPort: "9402"}
	without := func(key string) string {
		return "annotation " + key + ": means nothing without certwright.dev/auto-tls, leave it out or set that to a signer name"
	}
	for name, test := range map[string]struct {
		annotations map[string]string
		want        []string
	}{
		"nothing asked": {map[string]string{Delivery: "agent"}, []string{"annotation certwright.dev/auto-tls: missing, set it to a signer name such as example.com/internal"}},
		"about a certificate": {
			merged(bundles, map[string]string{DNSNames: "", Duration: "1h", KeyAlgorithm: "Ed25519", MountPath: "/x", SPIFFESocket: "true"}),
			[]string{without(DNSNames), without(Duration), without(KeyAlgorithm), without(MountPath), without(SPIFFESocket)},
		},
		"a key without a key": {
			merged(bundles, map[string]string{Formats: "JKS,PEM"}),
			[]string{`annotation certwright.dev/formats: "PEM" is for a key and its certificate, use PKCS12 or JKS without certwright.dev/auto-tls`},
		},
		"init does not stay": {merged(initial, staying), []string{
			"annotation certwright.dev/reload-signal: needs an agent that stays, set certwright.dev/delivery to agent",
			"annotation certwright.dev/reload-url: needs an agent that stays, set certwright.dev/delivery to agent",
			"annotation certwright.dev/reload-command: needs an agent that stays, set certwright.dev/delivery to agent",
			"annotation certwright.dev/spiffe-socket: needs an agent that stays, set certwright.dev/delivery to agent",
			"annotation certwright.dev/metrics-port: needs an agent that stays, set certwright.dev/delivery to agent",
		}},
		"no name of a volume":    {merged(certificate, map[string]string{ReloadCommand: `["/x"]`, ReloadVolume: "A"}), []string{`annotation certwright.dev/reload-volume: "A" is not allowed, use the name of a volume of the pod`}},
		"SPIFFE without an ID":   {merged(certificate, map[string]string{SPIFFESocket: "true", URIs: ""}), []string{"annotation certwright.dev/spiffe-socket: needs exactly one URI in certwright.dev/uris, which starts with spiffe://"}},
		"SPIFFE with two IDs":    {merged(certificate, map[string]string{SPIFFESocket: "true", URIs: "spiffe://a/b,spiffe://a/c"}), []string{"annotation certwright.dev/spiffe-socket: needs exactly one URI in certwright.dev/uris, which starts with spiffe://"}},
		"SPIFFE with another ID": {merged(certificate, map[string]string{SPIFFESocket: "true", URIs: "https://a/b"}), []string{"annotation certwright.dev/spiffe-socket: needs exactly one URI in certwright.dev/uris, which starts with spiffe://"}},
		"SPIFFE with its ID":     {merged(certificate, map[string]string{SPIFFESocket: "true", URIs: "spiffe://a/b"}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(test.annotations)
			var got Refusal
			errors.As(err, &got)
			if !reflect.DeepEqual([]string(got), test.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(test.want, "\n     "))
			}
		})
	}
}

// names are n DNS names of 15 bytes each.
func names(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("a%04d.local.svc", i)
	}
	return strings.Join(list, ",")
}

func TestReloads(t *testing.T) {
	for _, test := range []struct {
		annotations map[string]string
		want        bool
	}{
		{nil, false},
		{map[string]string{ReloadSignal: "x=HUP"}, true},
		{map[string]string{ReloadURL: "http://localhost:1"}, true},
		{map[string]string{ReloadCommand: `["/x"]`}, true},
	} {
		ask, err := Parse(merged(map[string]string{AutoTLS: signer}, test.annotations))
		if err != nil || ask.Reloads() != test.want {
			t.Errorf("%v: %t, %v", test.annotations, ask.Reloads(), err)
		}
	}
}

// What a kubelet cannot do is named, one annotation at a time, with what can.
func TestNeedsAgent(t *testing.T) {
	for name, test := range map[string]struct {
		annotations map[string]string
		want        string // before the advice; empty for what a kubelet can do
	}{
		"nothing":           {nil, ""},
		"names":             {map[string]string{DNSNames: "a.b", URIs: "", IPAddresses: "10.0.0.1", Usages: "client auth"}, ""},
		"shortest":          {map[string]string{Duration: "1h"}, ""},
		"longest":           {map[string]string{Duration: "2184h"}, ""},
		"other keys":        {map[string]string{KeyAlgorithm: "RSA-3072"}, ""},
		"path":              {map[string]string{MountPath: "/x", Containers: "a", Renew: "2026-01-02T15:04:05Z"}, ""},
		"its own bundle":    {map[string]string{Trust: signer}, ""},
		"many names":        {map[string]string{DNSNames: names(1000)}, ""},
		"too many names":    {map[string]string{DNSNames: names(1000), IPAddresses: "::1"}, DNSNames + ": a kubelet asks for no more names than fit into 16000 bytes"},
		"one variable":      {map[string]string{TrustEnv: "SSL_CERT_FILE"}, TrustEnv + ": a kubelet does not do that"},
		"too short":         {map[string]string{Duration: "59m59s"}, Duration + ": a kubelet asks for 1h to 2184h"},
		"too long":          {map[string]string{Duration: "2184h0m1s"}, Duration + ": a kubelet asks for 1h to 2184h"},
		"small RSA":         {map[string]string{KeyAlgorithm: "RSA-2048"}, KeyAlgorithm + ": a kubelet makes no such keys"},
		"the pod's address": {map[string]string{IPAddresses: "10.0.0.1,pod"}, IPAddresses + ": a kubelet asks before the pod has an address"},
		"more trust":        {map[string]string{Trust: "a.b/c"}, Trust + ": a kubelet does not merge bundles"},
		"variables":         {map[string]string{TrustEnv: "true"}, TrustEnv + ": a kubelet does not do that"},
		"formats":           {map[string]string{Formats: "PEM"}, Formats + ": a kubelet does not do that"},
		"signal":            {map[string]string{ReloadSignal: "x=HUP"}, ReloadSignal + ": a kubelet does not do that"},
		"URL":               {map[string]string{ReloadURL: "http://localhost:1"}, ReloadURL + ": a kubelet does not do that"},
		"command":           {map[string]string{ReloadCommand: `["/x"]`}, ReloadCommand + ": a kubelet does not do that"},
		"socket":            {map[string]string{SPIFFESocket: "true"}, SPIFFESocket + ": a kubelet does not do that"},
		"metrics":           {map[string]string{MetricsPort: "9402"}, MetricsPort + ": a kubelet does not do that"},
	} {
		t.Run(name, func(t *testing.T) {
			ask, err := Parse(merged(map[string]string{AutoTLS: signer}, test.annotations))
			if err != nil {
				t.Fatal(err)
			}
			got := ask.NeedsAgent()
			if test.want == "" {
				if got != nil {
					t.Errorf("got %s", got)
				}
				return
			}
			if want := "annotation " + test.want + ", set certwright.dev/delivery to agent"; len(got) != 1 || got[0] != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	for annotation, needs := range map[string]bool{"a.b/c": false, "a.b/c,a.b/d": true} {
		ask, err := Parse(map[string]string{Trust: annotation})
		if got := ask.NeedsAgent(); err != nil || (got != nil) != needs {
			t.Errorf("trust %s alone: %v, %v", annotation, got, err)
		}
	}
}
