// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
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
		ca := newTransportCA(t)
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

// transportCA issues certificates for both ends of mutual TLS, into a folder.
type transportCA struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newTransportCA(t *testing.T) transportCA {
	t.Helper()
	c := transportCA{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "transport"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	c.cert, c.key = c.issue("ca", root)
	c.pool.AddCert(c.cert)
	for _, name := range []string{"server", "client"} {
		c.issue(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature})
	}
	return c
}

func (c transportCA) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := c.cert, c.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(c.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return cert, key
}

func (c transportCA) file(name string) string { return filepath.Join(c.dir, name) }

func (c transportCA) read(name string) []byte {
	c.t.Helper()
	text, err := os.ReadFile(c.file(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}
