// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
)

// pod is what an agent process finds around it: an API server that signs what it
// is asked, and files.
type pod struct {
	t      *testing.T
	root   string
	server *httptest.Server
	caKey  *ecdsa.PrivateKey
	ca     *x509.Certificate

	mu      sync.Mutex
	objects map[string]map[string]any
	// verdict is the type of the condition that each request gets; "" leaves it pending.
	verdict string
}

func newPod(t *testing.T, verdict string) *pod {
	t.Helper()
	p := &pod{t: t, root: t.TempDir(), objects: make(map[string]map[string]any), verdict: verdict}
	p.server = httptest.NewTLSServer(p)
	t.Cleanup(p.server.Close)
	p.caKey = agenttest.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	p.ca = agenttest.Must(x509.ParseCertificate(agenttest.Must(x509.CreateCertificate(rand.Reader, template, template, p.caKey.Public(), p.caKey))(t)))(t)
	p.write("token", []byte("the-token"))
	p.write("ca.crt", pemOf(p.server.Certificate().Raw))
	p.write("bundle", pemOf(p.ca.Raw))
	if err := os.Mkdir(filepath.Join(p.root, "tls"), 0o777); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pod) write(name string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.root, name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (p *pod) config(once bool) string {
	return string(agenttest.Must(json.Marshal(agent.Config{
		SignerName: "example.com/internal", DNSNames: []string{"cart.shop.svc"}, IPAddresses: []string{"pod"},
		Directory: filepath.Join(p.root, "tls"), TrustBundleFiles: []string{filepath.Join(p.root, "bundle")}, Once: once,
	}))(p.t))
}

func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	if r.Method == http.MethodPost {
		var object map[string]any
		if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		metadata := object["metadata"].(map[string]any)
		metadata["uid"] = "uid"
		name = metadata["name"].(string)
		p.objects[name] = object
	}
	object := p.objects[name]
	if p.verdict != "" {
		status := map[string]any{"conditions": []any{map[string]any{"type": p.verdict, "reason": "Because", "message": "of a test"}}}
		if p.verdict == "Approved" {
			status["certificate"] = p.sign(object["spec"].(map[string]any)["request"].(string))
		}
		object["status"] = status
	}
	if err := json.NewEncoder(w).Encode(object); err != nil {
		p.t.Error(err)
	}
}

func (p *pod) sign(encoded string) []byte {
	var request []byte
	if err := json.Unmarshal([]byte(`"`+encoded+`"`), &request); err != nil {
		p.t.Error(err)
	}
	block, _ := pem.Decode(request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		p.t.Error(err)
		return nil
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(30 * time.Minute),
		DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses, URIs: csr.URIs,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}, p.ca, csr.PublicKey, p.caKey)
	if err != nil {
		p.t.Error(err)
	}
	return pemOf(der)
}

// command is an agent process in the pod.
func (p *pod) command(config string, args ...string) *exec.Cmd {
	p.t.Helper()
	host, port, err := net.SplitHostPort(p.server.Listener.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	command := exec.CommandContext(p.t.Context(), agenttest.Must(os.Executable())(p.t), args...)
	command.Env = []string{
		"CERTWRIGHT_TEST_ROOT=" + p.root, agent.ConfigEnv + "=" + config, agent.PodIPsEnv + "=198.18.0.7,2001:db8::7",
		"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port,
		"GOCOVERDIR=" + p.t.TempDir(),
		"GORACE=atexit_sleep_ms=0", // the race detector would sleep a second on exit
	}
	return command
}

// output runs a process to its end and returns its exit code.
func (p *pod) output(config string, args ...string) (code int, stdout, stderr string) {
	p.t.Helper()
	command := p.command(config, args...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), problems.String()
}
