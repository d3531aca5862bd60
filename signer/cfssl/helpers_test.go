// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cfssl_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/cfssl"
	"github.com/certwright/certwright/signer/signertest"
)

const (
	namespace = "certwright-system"
	authKey   = "6d6f7265207365637265742074686169"
)

var usages = []string{"digital signature", "server auth", "client auth"}

// issuer is a CA made for a test.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serials sync.Map

// newCertificate makes a certificate signed by parent, or a self-signed one. It is a CA's if change is nil.
func newCertificate(t testing.TB, name, algorithm string, parent *issuer, change func(*x509.Certificate)) *issuer {
	t.Helper()
	key := signertest.Key(t, algorithm)
	serial := big.NewInt(time.Now().UnixNano())
	if _, again := serials.LoadOrStore(serial.String(), true); again {
		t.Fatal("the clock stands still")
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), BasicConstraintsValid: true,
	}
	if change == nil {
		template.IsCA, template.MaxPathLen, template.KeyUsage = true, -1, x509.KeyUsageCertSign
	} else {
		change(template)
	}
	by := &issuer{cert: template, key: key}
	if parent != nil {
		by = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{cert, key}
}

func pemCert(i *issuer) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

func pemKey(t testing.TB, i *issuer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// profile is one of cfssl's signing profiles.
type profile map[string]any

// with returns a copy with more settings.
func (p profile) with(key string, value any) profile {
	made := profile{key: value}
	for k, v := range p {
		if k != key {
			made[k] = v
		}
	}
	return made
}

func workloads() profile {
	return profile{"usages": usages, "expiry": "1h", "auth_key": "certwright"}
}

// server is a cfssl or multirootca server that runs.
type server struct {
	*servers.Process
	dir, address string
	serving      *issuer
	signs        *issuer
	clients      *issuer // whose certificates clients must have, or nil
}

func (s *server) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configure writes what all servers need: the CA, profiles and a serving certificate.
func configure(t testing.TB, ca *issuer, profiles map[string]profile) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), address: servers.Address(t), signs: ca}
	root := newCertificate(t, "Serving root", "ECDSA-P256", nil, nil)
	serving := newCertificate(t, "cfssl", "ECDSA-P256", root, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
	s.serving = root
	s.write(t, "tls.crt", pemCert(serving))
	s.write(t, "tls.key", pemKey(t, serving))
	s.certify(t, ca)
	config := map[string]any{
		"auth_keys": map[string]any{"certwright": map[string]string{"type": "standard", "key": authKey}},
		"signing":   map[string]any{"default": profile{"usages": usages, "expiry": "8760h", "auth_key": "certwright"}, "profiles": profiles},
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "config.json", string(text))
	return s
}

// certify writes the CA that the server reads when it starts.
func (s *server) certify(t testing.TB, ca *issuer) {
	t.Helper()
	s.signs = ca
	s.write(t, "ca.crt", pemCert(ca))
	s.write(t, "ca.key", pemKey(t, ca))
}

// serve starts cfssl serve.
func (s *server) serve(t testing.TB) *server {
	t.Helper()
	host, port, _ := strings.Cut(s.address, ":")
	args := []string{"serve", "-address", host, "-port", port, "-ca", "ca.crt", "-ca-key", "ca.key", "-config", "config.json", "-tls-cert", "tls.crt", "-tls-key", "tls.key"}
	if s.clients != nil {
		s.write(t, "clients.crt", pemCert(s.clients))
		args = append(args, "-mutual-tls-ca", "clients.crt")
	}
	s.Process = servers.Start(t, servers.Spec{
		Path: servers.Build(t, "cfssl", "github.com/cloudflare/cfssl/cmd/cfssl"), Args: args, Dir: s.dir, ReadyAddress: s.address,
	})
	return s
}

// multiroot starts multirootca with the label "workloads".
func (s *server) multiroot(t testing.TB) *server {
	t.Helper()
	s.write(t, "roots.conf", fmt.Sprintf("[ workloads ]\nprivate = file://%s\ncertificate = ca.crt\nconfig = config.json\n", filepath.Join(s.dir, "ca.key")))
	s.Process = servers.Start(t, servers.Spec{
		Path: servers.Build(t, "cfssl", "github.com/cloudflare/cfssl/cmd/multirootca"),
		Args: []string{"-a", s.address, "-roots", "roots.conf", "-tls-cert", "tls.crt", "-tls-key", "tls.key"}, Dir: s.dir,
		ReadyURL: "https://" + s.address + "/metrics",
	})
	return s
}

// config is that of a backend for the server.
func (s *server) config() v1alpha1.CFSSL {
	return v1alpha1.CFSSL{
		Server: v1alpha1.Server{URL: "https://" + s.address, CABundle: pemCert(s.serving)}, Profile: "workloads",
		AuthKeyRef: v1alpha1.SecretKeyRef{Name: "cfssl", Key: "key"},
	}
}

func secret(key string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cfssl"}, Data: map[string][]byte{"key": []byte(key)}}
}

func newBackend(t testing.TB, config v1alpha1.CFSSL, objects ...client.Object) *cfssl.Backend {
	t.Helper()
	b, err := cfssl.New(cfssl.Options{Reader: fake.NewClientBuilder().WithObjects(objects...).Build(), Namespace: namespace, CFSSL: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func subject(b *cfssl.Backend) signertest.Subject {
	return signertest.Subject{Backend: b, Clock: clock.RealClock{}}
}
