// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package spiffe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/certwright/certwright/agent/agenttest"
)

const cartID = "spiffe://cluster.local/ns/shop/sa/cart"

// authority signs leaves, by way of an intermediate.
type authority struct{ *agenttest.Authority }

func newAuthority(t testing.TB) *authority { return &authority{agenttest.NewAuthority(t, "test")} }

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	return agenttest.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
}

// sign issues a certificate for a key, valid for an hour.
func (a *authority) sign(t testing.TB, template *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template.SerialNumber = agenttest.Must(rand.Int(rand.Reader, big.NewInt(1<<62)))(t)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	return agenttest.Must(x509.ParseCertificate(agenttest.Must(x509.CreateCertificate(rand.Reader, template, a.Intermediate, key.Public(), a.Key))(t)))(t)
}

// leaf returns a template of an X509-SVID.
func leaf(ids ...string) *x509.Certificate {
	template := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"cart.shop.svc"},
	}
	for _, id := range ids {
		uri, err := url.Parse(id)
		if err != nil {
			panic(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	return template
}

// issue signs a leaf with a new key and has the server serve it.
func (a *authority) issue(t testing.TB, s *Server, template *x509.Certificate) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key := newKey(t)
	certificate := a.sign(t, template, key)
	if err := s.Update([]*x509.Certificate{certificate, a.Intermediate}, key, []*x509.Certificate{a.Root}); err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// running is a Server and what it left.
type running struct {
	*Server
	log  *output
	stop func()
}

// start runs a Server until the test ends.
func start(t testing.TB) *running {
	t.Helper()
	log := new(output)
	// The paths of t.TempDir can be longer than those of sockets.
	dir := agenttest.Must(os.MkdirTemp("", "spiffe"))(t)
	s := New(filepath.Join(dir, "agent.sock"), slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	listening := make(chan struct{})
	log.when("serving the SPIFFE", listening)
	go func() { result <- s.Run(ctx) }()
	r := &running{Server: s, log: log, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run: %v", err)
		}
	})}
	t.Cleanup(func() {
		r.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "PRIVATE KEY") {
			t.Error("a key is in the log")
		}
	})
	<-listening
	return r
}

// dial connects as any gRPC client does.
func (r *running) dial(t testing.TB, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	connection := agenttest.Must(grpc.NewClient("unix://"+r.socket, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...))(t)
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// output collects a log.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	words string
	seen  chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen != nil && bytes.Contains(p, []byte(o.words)) {
		close(o.seen)
		o.seen = nil
	}
	return o.text.Write(p)
}

// when closes the channel as soon as the words are logged.
func (o *output) when(words string, seen chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.words, o.seen = words, seen; strings.Contains(o.text.String(), words) {
		close(seen)
		o.seen = nil
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
