// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

const cfsslKey = "6d6f7265207365637265742074686169"

func TestCFSSL(t *testing.T) {
	run(t, "cfssl", func(t *testing.T, c *cluster) system {
		transport, ca, address := newAuthority(t, "transport"), newAuthority(t, "cfssl"), servers.Address(t)
		config, err := json.Marshal(map[string]any{
			"auth_keys": map[string]any{"certwright": map[string]string{"type": "standard", "key": cfsslKey}},
			"signing": map[string]any{
				"default":  map[string]any{"usages": usages(), "expiry": "1h", "auth_key": "certwright"},
				"profiles": map[string]any{"workloads": map[string]any{"usages": usages(), "expiry": "1h", "auth_key": "certwright"}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		roots := fmt.Sprintf("[ workloads ]\nprivate = file://%s\ncertificate = %s\nconfig = %s\n", ca.file("ca.key"), ca.file("ca.crt"), ca.file("config.json"))
		for name, text := range map[string]string{"config.json": string(config), "roots.conf": roots} {
			if err := os.WriteFile(ca.file(name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		process := servers.Start(t, servers.Spec{
			Path:     servers.Build(t, "cfssl", "github.com/cloudflare/cfssl/cmd/multirootca"),
			Args:     []string{"-a", address, "-roots", ca.file("roots.conf"), "-tls-cert", transport.file("server.crt"), "-tls-key", transport.file("server.key")},
			ReadyURL: "https://" + address + "/metrics",
		})
		proxy := faultproxy.Start(t, "https://"+address, &tls.Config{RootCAs: transport.pool, MinVersion: tls.VersionTLS12})
		key := func(value string) func(t *testing.T) {
			return func(t *testing.T) {
				c.setSecret(t, "cfssl", corev1.SecretTypeOpaque, map[string][]byte{"key": []byte(value)})
			}
		}
		key(cfsslKey)(t)
		return system{
			process: process, proxy: proxy, issuer: "cfssl",
			faults: []fault{{name: "another key", begin: key("00" + cfsslKey[2:]), end: key(cfsslKey)}},
			backend: v1alpha1.Backend{
				Name: "cfssl", Timeout: metav1.Duration{Duration: 5 * time.Second},
				CFSSL: &v1alpha1.CFSSL{
					Server: v1alpha1.Server{URL: proxy.URL, CABundle: proxy.CA}, Label: "workloads", Profile: "workloads",
					AuthKeyRef: v1alpha1.SecretKeyRef{Name: "cfssl", Key: "key"},
				},
			},
		}
	})
}
