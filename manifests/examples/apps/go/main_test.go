// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &authority{sign(t, template, template, key, key), key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue returns a key pair for localhost.
func (a *authority) issue(t *testing.T, serial int64) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	return tls.Certificate{Certificate: [][]byte{sign(t, template, a.cert, key, a.key).Raw}, PrivateKey: key}
}

// publish puts a key pair into the directory as agents and kubelets do: all at once, by a link.
func (a *authority) publish(t *testing.T, directory, generation string, pair tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(directory, generation), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "tls.key": {Type: "PRIVATE KEY", Bytes: key}, "ca.crt": {Type: "CERTIFICATE", Bytes: a.cert.Raw},
	} {
		if err := os.WriteFile(filepath.Join(directory, generation, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link(t, directory, generation)
}

func link(t *testing.T, directory, generation string) {
	t.Helper()
	next := filepath.Join(directory, "..data_tmp")
	if err := os.Symlink(generation, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(directory, "..data")); err != nil {
		t.Fatal(err)
	}
}

func TestNewConnectionsSeeNewCertificates(t *testing.T) {
	t.Parallel()
	a, directory := newAuthority(t), t.TempDir()
	f := &files{directory: directory}
	if _, err := f.config(); err == nil {
		t.Error("without files: got no error")
	}
	a.publish(t, directory, "..1", a.issue(t, 11))
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It is closed with the server.
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: f.forClient}, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }),
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })

	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	client := func(certificates ...tls.Certificate) *http.Client {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: certificates}}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	mine := a.issue(t, 99)
	established := client(mine)
	expect := func(c *http.Client, serial int64) {
		t.Helper()
		response, err := c.Get("https://" + listener.Addr().String()) //nolint:noctx // The test ends with it.
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if got := response.TLS.PeerCertificates[0].SerialNumber.Int64(); got != serial {
			t.Errorf("got the certificate %d, want %d", got, serial)
		}
	}
	expect(established, 11)
	a.publish(t, directory, "..2", a.issue(t, 22))
	expect(established, 11)
	expect(client(mine), 22)

	if err := os.Mkdir(filepath.Join(directory, "..broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	link(t, directory, "..broken")
	expect(client(mine), 22)

	for name, c := range map[string]*http.Client{"without certificate": client(), "of another CA": client(newAuthority(t).issue(t, 99))} {
		response, err := c.Get("https://" + listener.Addr().String()) //nolint:noctx // The test ends with it.
		if err == nil {
			_ = response.Body.Close()
			t.Errorf("%s: was let in", name)
		}
	}
}
