// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/acme/dns01/bind9"
	"github.com/certwright/certwright/signer/acme/dns01/dnswebhook/contract"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
)

// runAsProgram makes the test's own executable be certwright-dns.
const runAsProgram = "CERTWRIGHT_DNS_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start runs `certwright-dns serve` as a process of its own, and returns its socket.
func start(t *testing.T, env []string, args ...string) (*servers.Process, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "dns.sock")
	p := servers.Start(t, servers.Spec{
		Path: os.Args[0], Args: append([]string{"serve", "--listen", socket}, args...), Env: append(env, runAsProgram+"=1"),
		ReadyLine: func(line string) bool { return strings.Contains(line, `"msg":"serving"`) },
	})
	return p, socket
}

// post sends a request over a socket, and returns the answer.
func post(t *testing.T, socket, path string, request contract.Request) (int, contract.Answer) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}, DisableKeepAlives: true}}
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Post("http://socket"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer contract.Answer
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

func request(provider string, more map[string]string) contract.Request {
	config := map[string]string{"provider": provider}
	for k, v := range more {
		config[k] = v
	}
	return contract.Request{
		Version: contract.Version, Config: config,
		Record: txt.Record{Zone: "example.com.", Name: "_acme-challenge.example.com.", Value: strings.Repeat("v", 43)},
	}
}

func TestServe(t *testing.T) {
	// Route 53 as far as it takes to see that the environment reaches its SDK.
	asked := make(chan string, 16)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `<ListHostedZonesByNameResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><HostedZones></HostedZones><IsTruncated>false</IsTruncated><MaxItems>1</MaxItems></ListHostedZonesByNameResponse>`)
	}))
	defer api.Close()
	p, socket := start(t, []string{
		"AWS_ENDPOINT_URL_ROUTE_53=" + api.URL, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=open-sesame", "AWS_CONFIG_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
		"CLOUDFLARE_API_TOKEN=", "DIGITALOCEAN_ACCESS_TOKEN=",
	}, "--zones", "example.com")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has the mode %v (error %v), want 0600", info.Mode(), err)
	}
	if status, answer := post(t, socket, contract.PathCheck, contract.Request{Version: contract.Version, Config: map[string]string{"provider": "route53"}}); status != contract.StatusDone {
		t.Errorf("check: status %d, %+v", status, answer)
	}
	if got := <-asked; !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") {
		t.Errorf("the provider was asked with %q", got)
	}
	for title, c := range map[string]struct {
		request contract.Request
		words   string
	}{
		"no such zone there":    {request("route53", nil), "no public hosted zone example.com."},
		"no provider":           {request("", nil), "is none of route53, cloudflare, clouddns, azuredns and digitalocean"},
		"unknown provider":      {request("bind", nil), `"bind" is none of`},
		"no token of theirs":    {request("cloudflare", nil), "CLOUDFLARE_API_TOKEN"},
		"nor of theirs":         {request("digitalocean", nil), "DIGITALOCEAN_ACCESS_TOKEN"},
		"credentials in config": {request("route53", map[string]string{"secretAccessKey": "x"}), `knows no key "secretAccessKey"`},
		"missing key":           {request("azuredns", nil), "needs the key"},
		"no project":            {request("clouddns", nil), `needs the key "project"`},
	} {
		t.Run(title, func(t *testing.T) {
			status, answer := post(t, socket, contract.PathPresent, c.request)
			if status != contract.StatusMisconfigured || !strings.Contains(answer.Error, c.words) {
				t.Errorf("status %d, error %q; want %d and %q", status, answer.Error, contract.StatusMisconfigured, c.words)
			}
		})
	}
	other := request("route53", nil)
	other.Zone, other.Name = "example.org.", "_acme-challenge.example.org."
	if status, answer := post(t, socket, contract.PathPresent, other); status != contract.StatusMisconfigured || !strings.Contains(answer.Error, "--zones") {
		t.Errorf("another zone: status %d, error %q", status, answer.Error)
	}
	if strings.Contains(p.Output(), "open-sesame") {
		t.Error("the log shows the secret")
	}
	p.Stop()
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A container that was killed leaves its socket behind, and its successor takes the place.
func TestSocketOfAKilledProcess(t *testing.T) {
	p, socket := start(t, nil, "--zones", "example.com")
	p.Kill()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("the test wants a socket that was left: %v", err)
	}
	p.Restart(t)
	if status, _ := post(t, socket, contract.PathPresent, contract.Request{Version: "v0"}); status != contract.StatusBadRequest {
		t.Errorf("status %d", status)
	}
}

// What is in the way and is no socket is not removed.
func TestFileInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := program(t, "serve", "--listen", path, "--zones", "example.com")
	if err == nil || !strings.Contains(output, "address already in use") {
		t.Errorf("error %v, output %s", err, output)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
		t.Errorf("the file holds %q (error %v)", text, err)
	}
}

// program runs certwright-dns to its end.
func program(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), runAsProgram+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func TestWrongFlags(t *testing.T) {
	for words, args := range map[string][]string{
		"name the zones":                 {"serve"},
		"is no DNS name":                 {"serve", "--zones", "*.example.com"},
		"--zone":                         {"conformance", "--url", "https://example.com"},
		"must begin with https:// or":    {"conformance", "--url", "http://example.com", "--zone", "example.com"},
		"--nameservers[0]":               {"conformance", "--url", "https://example.com", "--zone", "example.com", "--nameservers", "ns1"},
		"--token-file":                   {"conformance", "--url", "https://example.com", "--zone", "example.com", "--token-file", "/nowhere"},
		"holds no certificates in PEM":   {"conformance", "--url", "https://example.com", "--zone", "example.com", "--ca-file", "/dev/null"},
		"unknown command \"unheard-of\"": {"unheard-of"},
	} {
		if output, err := program(t, args...); err == nil || !strings.Contains(output, words) {
			t.Errorf("%q: error %v and output %q, want %q", args, err, output, words)
		}
	}
}

// `certwright-dns conformance` against a webhook that writes to BIND, as somebody runs it who wrote one.
func TestConformanceCommand(t *testing.T) {
	dns := bind9.Start(t, bind9.Config{Zones: []bind9.Zone{{Name: "example.test.", Options: "allow-update { 127.0.0.1; };"}}})
	for title, c := range map[string]struct {
		writer txt.Writer
		words  string
		fails  bool
	}{
		"good": {nsupdate{t, dns, false}, "ok    values written at the same time are all there", false},
		"bad":  {nsupdate{t, dns, true}, "FAIL  two values at one name leave each other alone", true},
	} {
		t.Run(title, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "webhook.sock")
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: contract.Handler(
				func(map[string]string) (txt.Writer, error) { return c.writer, nil }, "", nil)}}
			server.Start()
			defer server.Close()
			output, err := program(t, "conformance", "--url", "unix://"+socket, "--zone", "example.test", "--nameservers", dns.Address(),
				"--authority-port", fmt.Sprint(dns.Port), "--patience", "2s")
			if (err != nil) != c.fails || !strings.Contains(output, c.words) {
				t.Errorf("error %v, output:\n%s", err, output)
			}
		})
	}
}

// nsupdate writes with the command of that name. A broken one removes all values of a name.
type nsupdate struct {
	t      *testing.T
	dns    *bind9.Server
	broken bool
}

func (n nsupdate) Present(ctx context.Context, r txt.Record) error {
	return n.run(ctx, r, fmt.Sprintf("add %s 60 TXT %s", r.Name, r.Value))
}

func (n nsupdate) CleanUp(ctx context.Context, r txt.Record) error {
	if n.broken {
		return n.run(ctx, r, fmt.Sprintf("delete %s TXT", r.Name))
	}
	return n.run(ctx, r, fmt.Sprintf("delete %s TXT %s", r.Name, r.Value))
}

func (n nsupdate) run(ctx context.Context, r txt.Record, change string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsupdate")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("server %s %d\nzone %s\n%s\nsend\n", n.dns.IP, n.dns.Port, r.Zone, change))
	if output, err := cmd.CombinedOutput(); err != nil {
		return txt.Misconfigured("nsupdate: %w: %s", err, output)
	}
	return nil
}
