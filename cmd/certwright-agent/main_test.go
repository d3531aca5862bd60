// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/agenttest"
)

// TestMain lets the test binary be the agent: so the tests see real processes,
// with signals and exit codes.
func TestMain(m *testing.M) {
	if root := os.Getenv("CERTWRIGHT_TEST_ROOT"); root != "" {
		p := process{
			getenv: os.Getenv, stdout: os.Stdout, stderr: os.Stderr,
			serviceAccount: root, terminationLog: filepath.Join(root, "termination-log"),
		}
		os.Exit(p.execute(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func TestOnceThenHealth(t *testing.T) {
	p := newPod(t, "Approved")
	if code, _, stderr := p.output(p.config(true), "health"); code != 1 || !strings.Contains(stderr, "no files in") {
		t.Errorf("health before: code %d, %q", code, stderr)
	}
	code, _, stderr := p.output(p.config(true))
	if code != 0 {
		t.Fatalf("code %d: %s", code, stderr)
	}
	if !regexp.MustCompile(`msg="the certificate is in place" after=[0-9.]+m?s waited=[0-9.]+m?s`).MatchString(stderr) {
		t.Errorf("the log does not say how long it took: %s", stderr)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(p.root, "tls", "tls.crt"), filepath.Join(p.root, "tls", "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	if ips := pair.Leaf.IPAddresses; len(ips) != 2 {
		t.Errorf("addresses %v, want both of the pod", ips)
	}
	code, stdout, stderr := p.output(p.config(true), "health")
	if code != 0 || !strings.HasPrefix(stdout, "valid for") || stderr != "" {
		t.Errorf("health: code %d, %q, %q", code, stdout, stderr)
	}
}

func TestVerdictIsTheTerminationMessage(t *testing.T) {
	p := newPod(t, "Denied")
	code, _, stderr := p.output(p.config(false), "run")
	message, err := os.ReadFile(filepath.Join(p.root, "termination-log"))
	if code != 1 || err != nil || !strings.Contains(string(message), "Denied, reason Because: of a test") {
		t.Errorf("code %d, message %q, error %v\n%s", code, message, err, stderr)
	}
}

func TestTerminatedWhileItWaits(t *testing.T) {
	p := newPod(t, "")
	command := p.command(p.config(false))
	stderr := agenttest.Must(command.StderrPipe())(t)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "requested a certificate") {
	}
	status := string(agenttest.Must(os.ReadFile(fmt.Sprintf("/proc/%d/limits", command.Process.Pid)))(t))
	for line := range strings.Lines(status) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (fields[4] != "0" || fields[5] != "0") {
			t.Errorf("core files are allowed: %s", line)
		}
	}
	start := time.Now()
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stderr)
	if err := command.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("took %v to end", took)
	}
}

func TestBadSurroundings(t *testing.T) {
	p := newPod(t, "")
	for name, test := range map[string]struct {
		config string
		args   []string
		code   int
		want   string
	}{
		"no config":          {args: []string{"run"}, code: 1, want: "CERTWRIGHT_AGENT_CONFIG is not set"},
		"broken config":      {config: `{"x":1}`, code: 1, want: `unknown field \"x\"`},
		"health, no config":  {args: []string{"health"}, code: 1, want: "CERTWRIGHT_AGENT_CONFIG is not set"},
		"no directory":       {config: strings.Replace(p.config(false), p.root+"/tls", "/nowhere", 1), code: 1, want: "must exist and be writable"},
		"unknown subcommand": {args: []string{"renew"}, code: 2, want: "unknown arguments"},
		"too many":           {args: []string{"run", "now"}, code: 2, want: "unknown arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, stderr := p.output(test.config, test.args...); code != test.code || !strings.Contains(stderr, test.want) {
				t.Errorf("code %d, want %d; stderr %q, want %q", code, test.code, stderr, test.want)
			}
		})
	}
	if code, stdout, _ := p.output("", "version"); code != 0 || stdout != version+"\n" {
		t.Errorf("version: code %d, %q", code, stdout)
	}
	if code, stdout, _ := p.output("", "help"); code != 0 || stdout != usage {
		t.Errorf("help: code %d, %q", code, stdout)
	}
}

func TestOutsideOfAPod(t *testing.T) {
	var stderr bytes.Buffer
	root := t.TempDir()
	p := process{
		getenv: func(name string) string {
			if name == agent.ConfigEnv {
				return `{"signerName":"example.com/x","dnsNames":["a"],"directory":"/tls","trustBundleFiles":["/ca.crt"]}`
			}
			return ""
		},
		stdout: io.Discard, stderr: &stderr, serviceAccount: root, terminationLog: filepath.Join(root, "message"),
	}
	if code := p.run(); code != 1 || !strings.Contains(stderr.String(), "runs in pods only") {
		t.Errorf("code %d, %q", code, stderr.String())
	}
}
