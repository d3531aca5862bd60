// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/credential"
	"github.com/certwright/certwright/agent/files"
	"github.com/certwright/certwright/agent/metrics"
	"github.com/certwright/certwright/agent/store"
)

// cluster is an API server for CertificateSigningRequests with a signer behind
// it, reached over TLS on connections in memory, so that it runs in a synctest
// bubble. What it answers can be changed at any time through the fields.
type cluster struct {
	t      testing.TB
	client *apiserver.Client
	dir    string // of the agent's files: token, ca.crt, bundle and out

	mu      sync.Mutex
	objects map[string]*apiserver.Request
	calls   []string
	ca      *agenttest.Authority
	// intercept may answer a call itself and then returns true.
	intercept func(w http.ResponseWriter, r *http.Request) bool
	// decide is called on each GET and sets the status; nil issues.
	decide func(*apiserver.Request)
	// spoil changes the certificate that is issued.
	spoil func(*x509.Certificate)
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), objects: make(map[string]*apiserver.Request), ca: agenttest.NewAuthority(t, "first")}
	server := httptest.NewUnstartedServer(c)
	server.Listener.Close()
	listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server.Listener = listener
	server.Config.ErrorLog = log.New(t.Output(), "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	c.write("token", []byte("the-token\n"))
	c.write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	c.write("bundle", c.ca.Bundle())
	if err := os.Mkdir(filepath.Join(c.dir, "out"), 0o777); err != nil {
		t.Fatal(err)
	}
	c.client = apiserver.NewClient("127.0.0.1", "443", filepath.Join(c.dir, "token"), filepath.Join(c.dir, "ca.crt"), "test")
	c.client.Dial = listener.dial
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

// newTCPCluster returns a cluster that is reached over the network, for tests with
// real processes and real time.
func newTCPCluster(t testing.TB) *cluster {
	t.Helper()
	c := newCluster(t)
	server := httptest.NewTLSServer(c)
	t.Cleanup(server.Close)
	c.write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.client = apiserver.NewClient(host, port, filepath.Join(c.dir, "token"), filepath.Join(c.dir, "ca.crt"), "test")
	return c
}

func (c *cluster) write(name string, data []byte) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) config() agent.Config {
	return agent.Config{
		SignerName: "example.com/internal", DNSNames: []string{"cart.shop.svc"},
		URIs:             []string{"spiffe://example.org/ns/shop/sa/cart"},
		Directory:        filepath.Join(c.dir, "out"),
		TrustBundleFiles: []string{filepath.Join(c.dir, "bundle")},
	}.WithDefaults()
}

// with changes the cluster's behaviour while it runs.
func (c *cluster) with(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// count returns how many calls began with the prefix, such as "POST".
func (c *cluster) count(prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, call := range c.calls {
		if strings.HasPrefix(call, prefix) {
			n++
		}
	}
	return n
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, r.Method+" "+r.URL.Path)
	if r.Header.Get("Authorization") != "Bearer the-token" {
		refuse(w, http.StatusUnauthorized, "Unauthorized", "who are you")
		return
	}
	if c.intercept != nil && c.intercept(w, r) {
		return
	}
	switch r.Method {
	case http.MethodPost:
		object := new(apiserver.Request)
		if err := json.NewDecoder(r.Body).Decode(object); err != nil {
			refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		c.create(w, object)
	case http.MethodGet:
		object := c.objects[strings.TrimPrefix(r.URL.Path, "/apis/certificates.k8s.io/v1/certificatesigningrequests"+"/")]
		if object == nil {
			refuse(w, http.StatusNotFound, "NotFound", "no such request")
			return
		}
		if c.decide != nil {
			c.decide(object)
		} else {
			c.issue(object)
		}
		answer(w, http.StatusOK, object)
	}
}

func (c *cluster) create(w http.ResponseWriter, object *apiserver.Request) {
	if c.objects[object.Metadata.Name] != nil {
		refuse(w, http.StatusConflict, "AlreadyExists", "it is there")
		return
	}
	object.Metadata.UID = fmt.Sprintf("uid-%d", len(c.calls))
	c.objects[object.Metadata.Name] = object
	answer(w, http.StatusCreated, object)
}

// issue approves and signs an object that has no certificate yet and holds a request.
func (c *cluster) issue(object *apiserver.Request) {
	if object.Status.Certificate != nil || !bytes.HasPrefix(object.Spec.Request, []byte("-----BEGIN")) {
		return
	}
	object.Status.Conditions = []apiserver.RequestCondition{{Type: "Approved", Reason: "PolicyPermits"}}
	issued, err := c.ca.Sign(object.Spec.Request, time.Duration(object.Spec.ExpirationSeconds)*time.Second, c.spoil)
	if err != nil {
		c.t.Error(err)
	}
	object.Status.Certificate = issued
}

// answer writes the object with more fields than the agent knows.
func answer(w http.ResponseWriter, code int, object *apiserver.Request) {
	data, _ := json.Marshal(object)
	var all map[string]any
	_ = json.Unmarshal(data, &all)
	all["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{"manager": "test"}}
	all["extra"] = 1
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(all)
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "reason": reason, "message": message, "code": code})
}

// agentRun is a Manager that runs in a bubble.
type agentRun struct {
	*cluster
	config  agent.Config
	metrics *metrics.Metrics
	log     *syncBuffer
	cancel  context.CancelFunc
	done    chan error
}

// start runs an agent until the test ends.
func (c *cluster) start(config agent.Config) *agentRun { return c.startAt(config, clock.RealClock{}) }

func (c *cluster) startAt(config agent.Config, at clock.Clock) *agentRun {
	c.t.Helper()
	run := &agentRun{cluster: c, config: config, log: new(syncBuffer), done: make(chan error, 1)}
	manager := agenttest.Must(New(config, Options{
		API: c.client, Log: slog.New(slog.NewTextHandler(run.log, nil)),
		Clock: at, Jitter: func() float64 { return 0.5 },
	}))(c.t)
	run.metrics = manager.metrics
	ctx, cancel := context.WithCancel(context.Background())
	run.cancel = cancel
	go func() { run.done <- manager.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if c.t.Failed() {
			c.t.Log(run.log.String())
		}
	})
	return run
}

// after lets time pass and then returns what is on disk, or nil.
func (r *agentRun) after(d time.Duration) *files.Set {
	r.t.Helper()
	time.Sleep(d) // the bubble's clock: returns at once when all is idle
	synctest.Wait()
	return load(r.config.Directory)
}

// load reads the directory; nil when there is nothing to be read.
func load(dir string) *files.Set {
	rendered, err := store.New(dir).Load()
	if err != nil {
		return nil
	}
	set, err := files.Parse(rendered)
	if err != nil {
		return nil
	}
	return set
}

// result returns what Run returned, which must have happened by now.
func (r *agentRun) result() error {
	r.t.Helper()
	synctest.Wait()
	select {
	case err := <-r.done:
		return err
	default:
		r.t.Fatal("still running")
		return nil
	}
}

// status is what Run left for the health check.
func (r *agentRun) status() string { return store.New(r.config.Directory).Status() }

func (r *agentRun) wantLog(text string) {
	r.t.Helper()
	if !strings.Contains(r.log.String(), text) {
		r.t.Errorf("the log lacks %q", text)
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// pipeListener hands out connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// pair makes a key and a certificate for the names, valid from now on.
func pair(t testing.TB, a *agenttest.Authority, n credential.Names, lifetime time.Duration) *credential.Pair {
	t.Helper()
	key := agenttest.Must(credential.GenerateKey("ECDSA-P256"))(t)
	issued := agenttest.Must(a.Sign(agenttest.Must(credential.RequestPEM(key, n))(t), lifetime, nil))(t)
	return &credential.Pair{Chain: agenttest.Must(credential.ParseChain(issued))(t), Key: key}
}
