// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
)

// A real client of the SPIFFE Workload API gets what is on disk from a real agent,
// also after a restart, when nothing is requested.
func TestServesSPIFFEAndMetrics(t *testing.T) {
	p := newPod(t, "Approved")
	listener := agenttest.Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(p.root, "agent.sock")
	config := string(agenttest.Must(json.Marshal(agent.Config{
		SignerName: "example.com/internal", URIs: []string{"spiffe://example.org/ns/shop/sa/cart"},
		Directory: filepath.Join(p.root, "tls"), TrustBundleFiles: []string{filepath.Join(p.root, "bundle")},
		SPIFFESocket: socket, MetricsAddress: address, PublicRoots: true, Formats: []string{agent.FormatPKCS12},
	}))(t))
	for range 2 {
		command := p.command(config)
		var log bytes.Buffer
		command.Stderr = &log
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		source := agenttest.Must(workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket))))(t) // waits
		svid := agenttest.Must(source.GetX509SVID())(t)
		onDisk := string(agenttest.Must(os.ReadFile(filepath.Join(p.root, "tls", "tls.crt")))(t))
		if svid.ID.String() != "spiffe://example.org/ns/shop/sa/cart" || string(pemOf(svid.Certificates[0].Raw)) != onDisk {
			t.Errorf("got the SVID of %s, want that on disk", svid.ID)
		}
		response, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if text := agenttest.Must(io.ReadAll(response.Body))(t); !strings.Contains(string(text), "certwright_agent_renewals_total 0\n") {
			t.Errorf("metrics %s", text)
		}
		_ = response.Body.Close()
		_ = source.Close()
		start := time.Now()
		if err := command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := command.Wait(); err != nil || time.Since(start) > 3*time.Second {
			t.Errorf("ended with %v after %v: %s", err, time.Since(start), log.String())
		}
	}
	if n := len(p.objects); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// Trust anchors alone need no API server, no token and no address.
func TestTrustOnlyNeedsNothingElse(t *testing.T) {
	p := newPod(t, "")
	config := string(agenttest.Must(json.Marshal(agent.Config{
		TrustOnly: true, Once: true, PublicRoots: true,
		Directory: filepath.Join(p.root, "tls"), TrustBundleFiles: []string{filepath.Join(p.root, "bundle")},
	}))(t))
	for _, name := range []string{"token", "ca.crt"} {
		if err := os.Remove(filepath.Join(p.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"run"}, {"health"}} {
		command := p.command(config, args...)
		command.Env = append(command.Env, "KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT=")
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", args, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(p.root, "tls", "ca-bundle.crt")); err != nil {
		t.Error(err)
	}
}
