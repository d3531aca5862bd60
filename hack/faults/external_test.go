// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"crypto/tls"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/signertest/faultproxy"
)

// The sample of an external signer keeps its CA in memory, so to be stopped is to be emptied as well.
func TestExternal(t *testing.T) {
	run(t, "external", func(t *testing.T, c *cluster) system {
		program := filepath.Join(t.TempDir(), "sample-signer")
		build(t, program, "../sample-signer")
		ca := newAuthority(t, "transport")
		address := servers.Address(t)
		process := servers.Start(t, servers.Spec{
			Path: program, ReadyLine: func(line string) bool { return strings.HasPrefix(line, "serving on") },
			Args: []string{"--listen", address, "--tls-cert", ca.file("server.crt"), "--tls-key", ca.file("server.key"), "--client-ca", ca.file("ca.crt")},
		})
		pair, err := tls.LoadX509KeyPair(ca.file("client.crt"), ca.file("client.key"))
		if err != nil {
			t.Fatal(err)
		}
		proxy := faultproxy.Start(t, "https://"+address, &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		secret := map[string][]byte{corev1.TLSCertKey: ca.read("client.crt"), corev1.TLSPrivateKeyKey: ca.read("client.key")}
		c.setSecret(t, "external-client", corev1.SecretTypeTLS, secret)
		return system{
			process: process, proxy: proxy, issuer: "Sample signer",
			backend: v1alpha1.Backend{
				Name: "external", Timeout: metav1.Duration{Duration: 5 * time.Second},
				External: &v1alpha1.External{
					Address: strings.TrimPrefix(proxy.URL, "https://"), CABundle: proxy.CA, ClientCertificateRef: &v1alpha1.SecretRef{Name: "external-client"},
				},
			},
		}
	})
}
