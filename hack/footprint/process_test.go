// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package footprint

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long an agent may take to its first files.
	patience = 30 * time.Second
	// An agent is idle when its memory has not changed for quiet; it is given longest for that.
	quiet   = 10 * time.Second
	longest = 90 * time.Second
)

// agent is a program that is measured.
type agent struct {
	name, pkg string
	args, env []string
	pair      string // the link that shows the pair, absolute or not
}

// process is one that runs.
type process struct {
	command  *exec.Cmd
	output   *bytes.Buffer
	own, all time.Duration
}

func build(b *testing.B, program, pkg string) {
	b.Helper()
	command := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", program, pkg)
	command.Dir = "../.."
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
}

// start starts the program in a root directory of its own that holds what a pod
// shows it, and returns when its files are in place.
func (s *server) start(b *testing.B, program string, a agent) *process {
	b.Helper()
	root := b.TempDir()
	for name, data := range map[string][]byte{
		"var/run/secrets/kubernetes.io/serviceaccount/token":  s.token,
		"var/run/secrets/kubernetes.io/serviceaccount/ca.crt": s.ca,
		"trust/ca.crt": s.bundle,
		"tls/.keep":    nil,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Link(program, filepath.Join(root, "agent")); err != nil {
		b.Fatal(err)
	}
	p := &process{output: new(bytes.Buffer)}
	p.command = exec.CommandContext(b.Context(), "/agent", a.args...)
	p.command.Dir = "/"
	p.command.Env = append([]string{"KUBERNETES_SERVICE_HOST=" + s.host, "KUBERNETES_SERVICE_PORT=" + s.port}, a.env...)
	p.command.Stdout, p.command.Stderr = p.output, p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	s.issued() // what others asked for
	begun := time.Now()
	if err := p.command.Start(); err != nil {
		b.Fatal(err)
	}
	p.wait(b, filepath.Join(root, a.pair), begun)
	done := time.Now()
	answer := s.issued()
	if answer.asked.Before(begun) || answer.answered.After(done) {
		b.Fatalf("%s: asked %s after its start, answered %s after its files were there", a.name, answer.asked.Sub(begun), answer.answered.Sub(done))
	}
	p.all = done.Sub(begun)
	p.own = p.all - answer.answered.Sub(answer.asked)
	return p
}

// wait returns when the file is there.
func (p *process) wait(b *testing.B, file string, begun time.Time) {
	b.Helper()
	for tick := time.NewTicker(500 * time.Microsecond); ; <-tick.C {
		if _, err := os.Lstat(file); err == nil {
			tick.Stop()
			return
		}
		if time.Since(begun) > patience {
			_ = p.command.Process.Signal(syscall.SIGQUIT) // its goroutines tell what it waits for
			_ = p.command.Wait()
			b.Fatalf("no files after %s:\n%s", patience, p.output)
		}
	}
}

// idle waits until the process's memory is quiet and returns how much is resident,
// and how much of it is not backed by a file.
func (p *process) idle(b *testing.B) (resident, anon int64) {
	b.Helper()
	begun, changed := time.Now(), time.Now()
	for tick := time.NewTicker(200 * time.Millisecond); time.Since(changed) < quiet && time.Since(begun) < longest; <-tick.C {
		now, nowAnon := memory(b, p.command.Process.Pid)
		if now != resident {
			changed = time.Now()
		}
		resident, anon = now, nowAnon
	}
	return resident, anon
}

func memory(b *testing.B, pid int) (resident, anon int64) {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			resident = kilobytes << 10
		case "RssAnon:":
			anon = kilobytes << 10
		}
	}
	if resident == 0 {
		b.Fatalf("process %d shows no memory", pid)
	}
	return resident, anon
}

func (p *process) stop(b *testing.B) {
	b.Helper()
	if err := p.command.Process.Kill(); err != nil {
		b.Fatal(err)
	}
	_ = p.command.Wait() // it was killed
}
