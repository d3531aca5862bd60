// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/external"
	"github.com/certwright/certwright/signer/remote"
	"github.com/certwright/certwright/signer/signertest"
)

const (
	namespace  = "certwright-system"
	secretName = "sample-client"
)

// TestMain is also the program that answers wrongly, in another process: see hostile_test.go.
func TestMain(m *testing.M) {
	if address := os.Getenv(hostileAddress); address != "" {
		if err := serveHostile(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var buildSample = sync.OnceValues(func() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "certwright", "servers", "sample-signer")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-tags", "grpcnotrace", "-o", path, "../../hack/sample-signer").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the sample: %w\n%s", err, out)
	}
	return path, nil
})

func startSample(t *testing.T, args ...string) *servers.Process {
	t.Helper()
	path, err := buildSample()
	if err != nil {
		t.Fatal(err)
	}
	return servers.Start(t, servers.Spec{Path: path, Args: args, ReadyLine: isServing})
}

func isServing(line string) bool { return strings.HasPrefix(line, "serving on") }

// overSocket returns a backend for a socket in a folder of the test, and the path of the socket.
func overSocket(t *testing.T, config map[string]string) (*external.Backend, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sockets") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "test.sock")
	return onSocket(t, socket, config), socket
}

func onSocket(t *testing.T, socket string, config map[string]string) *external.Backend {
	t.Helper()
	address := "unix:///run/certwright/" + filepath.Base(socket)
	return build(t, external.Options{Sockets: filepath.Dir(socket), External: v1alpha1.External{Address: address, Config: config}})
}

func build(t *testing.T, o external.Options) *external.Backend {
	t.Helper()
	o.SignerName, o.Backend = "example.com/internal", "own"
	b, err := external.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func request(t *testing.T) csr.Request {
	t.Helper()
	return signertest.Request(t, signertest.Key(t, "ECDSA-P256"), &x509.CertificateRequest{DNSNames: []string{"web.shop.svc"}}, nil, time.Hour)
}

// ca issues the certificates of both sides of mutual TLS.
type ca struct {
	authority
	t *testing.T
}

func newCA(t *testing.T) ca { return ca{authority: newAuthority("transport"), t: t} }

// pair returns a certificate for 127.0.0.1 and its key in PEM.
func (c ca) pair(usage x509.ExtKeyUsage) (cert, key []byte) {
	c.t.Helper()
	private := newKey()
	leaf := c.create(&x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, private.Public())
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		c.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func (c ca) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}))
}

// secret holds a client certificate of the CA.
func (c ca) secret() *corev1.Secret {
	cert, key := c.pair(x509.ExtKeyUsageClientAuth)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: secretName}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}
}

// overTLS starts the sample with certificates of the CA and returns a backend that trusts it.
func overTLS(t *testing.T, c ca, secrets ...client.Object) (*external.Backend, client.Client, string, *servers.Process) {
	t.Helper()
	dir, address := t.TempDir(), servers.Address(t)
	cert, key := c.pair(x509.ExtKeyUsageServerAuth)
	args := []string{"--listen", address}
	for _, f := range []struct {
		flag string
		text []byte
	}{{"tls-cert", cert}, {"tls-key", key}, {"client-ca", []byte(c.pem())}} {
		path := filepath.Join(dir, f.flag)
		if err := os.WriteFile(path, f.text, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--"+f.flag, path)
	}
	process := startSample(t, args...)
	cluster := fake.NewClientBuilder().WithObjects(secrets...).Build()
	return onAddress(t, cluster, address, c.pem(), ""), cluster, address, process
}

func onAddress(t *testing.T, cluster client.Reader, address, caBundle, serverName string) *external.Backend {
	t.Helper()
	return build(t, external.Options{
		Secrets: remote.Secrets{Reader: cluster, Namespace: namespace},
		External: v1alpha1.External{
			Address: address, CABundle: caBundle, ServerName: serverName, ClientCertificateRef: &v1alpha1.SecretRef{Name: secretName},
		},
	})
}
