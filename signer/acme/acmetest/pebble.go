// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package acmetest runs what the tests of ACME need: the real servers pebble, pebble-challtestsrv and step-ca, a front door that
// serves Ingresses and HTTPRoutes, and a Kubernetes API in memory.
package acmetest

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
)

const (
	pebblePackage      = "github.com/letsencrypt/pebble/v2/cmd/pebble"
	challtestsrvModule = "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv"
)

// Pebble is a running pebble.
type Pebble struct {
	*servers.Process
	// Server is how to reach it.
	Server v1alpha1.Server
	// Management is the URL of its management interface.
	Management string
}

// PebbleConfig says what pebble to run. The zero value is one that answers at once and has no terms to be broken.
type PebbleConfig struct {
	// HTTPPort is where it validates HTTP-01 challenges.
	HTTPPort int
	// DNS, as HOST:PORT, is what it asks. Default: a pebble-challtestsrv that says 127.0.0.1 to everything.
	DNS string
	// Env is added to its environment, such as PEBBLE_WFE_NONCEREJECT=20.
	Env []string
	// EAB holds MAC keys by key ID. If it is not empty, accounts must be bound to one.
	EAB map[string]string
	// Profiles are lifetimes in seconds by name. Default: one of 90 days.
	Profiles map[string]int
	// RetryAfter is what it says for orders and authorizations, in seconds.
	RetryAfter int
	// Blocked are domains that it issues nothing for.
	Blocked []string
}

// StartPebble starts pebble.
func StartPebble(t testing.TB, c PebbleConfig) *Pebble {
	t.Helper()
	dir := t.TempDir()
	ca := newAuthority(t, nil, "pebble's listener")
	certificate, key := ca.listener(t)
	certFile, keyFile := write(t, dir, "cert.pem", certificate), write(t, dir, "key.pem", key)
	address, management := servers.Address(t), servers.Address(t)
	if c.DNS == "" {
		c.DNS = StartChalltestsrv(t).DNS
	}
	if c.Profiles == nil {
		c.Profiles = map[string]int{"default": 90 * 24 * 3600}
	}
	profiles := map[string]any{}
	for name, seconds := range c.Profiles {
		profiles[name] = map[string]any{"description": name, "validityPeriod": seconds}
	}
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": address, "managementListenAddress": management,
		"certificate": certFile, "privateKey": keyFile,
		"httpPort": c.HTTPPort, "tlsPort": 1,
		"externalAccountBindingRequired": len(c.EAB) > 0, "externalAccountMACKeys": c.EAB,
		"domainBlocklist": c.Blocked, "profiles": profiles, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": c.RetryAfter, "order": c.RetryAfter},
	}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := servers.Start(t, servers.Spec{
		Path:     servers.Build(t, "acme", pebblePackage),
		Args:     []string{"-strict", "-config", write(t, dir, "pebble.json", text), "-dnsserver", c.DNS},
		Env:      append([]string{"PEBBLE_VA_NOSLEEP=1"}, c.Env...),
		ReadyURL: "https://" + address + "/dir",
	})
	return &Pebble{
		Process:    p,
		Server:     v1alpha1.Server{URL: "https://" + address + "/dir", CABundle: string(ca.pem)},
		Management: "https://" + management,
	}
}

// Root returns the root of one of its chains, in PEM. The first is that of the chain it offers first. It makes new ones at each start.
func (p *Pebble) Root(t testing.TB, index int) string {
	t.Helper()
	return string(p.get(t, "/roots/"+strconv.Itoa(index)))
}

func (p *Pebble) get(t testing.TB, path string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Management+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := insecure.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(body); response.StatusCode != http.StatusOK || block == nil {
		t.Fatalf("pebble's %s answers %s: %s", path, response.Status, body)
	}
	return body
}

// Challtestsrv is a running pebble-challtestsrv: a DNS server that says what it is told to.
type Challtestsrv struct {
	*servers.Process
	// DNS is its address as HOST:PORT, Management the URL of its HTTP interface.
	DNS, Management string
}

// StartChalltestsrv starts pebble-challtestsrv. It says 127.0.0.1 for every name.
func StartChalltestsrv(t testing.TB) *Challtestsrv {
	t.Helper()
	dns, management := servers.Address(t), servers.Address(t)
	p := servers.Start(t, servers.Spec{
		Path: servers.Build(t, "acme", challtestsrvModule),
		Args: []string{
			"-dnsserver", dns, "-management", management, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
			"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
		},
		ReadyAddress: management,
	})
	return &Challtestsrv{Process: p, DNS: dns, Management: "http://" + management}
}

// SetA has it say that address for a name.
func (c *Challtestsrv) SetA(t testing.TB, name, address string) {
	t.Helper()
	c.post(t, "/add-a", map[string]any{"host": name, "addresses": []string{address}})
}

func (c *Challtestsrv) post(t testing.TB, path string, body any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Management+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("challtestsrv's %s answers %s", path, response.Status)
	}
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// port is that of an address.
func port(t testing.TB, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
