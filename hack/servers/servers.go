// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package servers builds and runs the real servers that backends are tested against. Each is a Go module of its own in a
// folder beside this file, so that the servers' dependencies stay out of Certwright's.
package servers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to be ready. Building one is not part of it.
const patience = time.Minute

var builds sync.Map // of module and package to a func() (string, error) that builds once

// Build builds a package of the Go module in the folder module beside this file, and returns the path of the program. It
// is built once in each process; what has not changed comes from Go's build cache.
func Build(t testing.TB, module, pkg string) string {
	t.Helper()
	once, _ := builds.LoadOrStore(module+" "+pkg, sync.OnceValues(func() (string, error) { return build(module, pkg) }))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func build(module, pkg string) (string, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("building a server: the source of hack/servers is not known")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("building a server: %w", err)
	}
	out := filepath.Join(cache, "certwright", "servers", module, filepath.Base(pkg))
	unlock, err := lock(out + ".lock")
	if err != nil {
		return "", fmt.Errorf("building a server: %w", err)
	}
	defer unlock()
	// Into the same place each time: a program that is there and up to date is not linked again.
	cmd := exec.CommandContext(context.Background(), "go", "build", "-C", filepath.Join(filepath.Dir(here), module), "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if module == "cfssl" {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1") // its certificate database is SQLite
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s in hack/servers/%s: %w\n%s", pkg, module, err, output)
	}
	return out, nil
}

// lock keeps other processes that build the same program waiting.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

var addresses sync.Map // that were handed out

// Address returns an address of loopback that was free a moment ago, as HOST:PORT, and another one each time.
func Address(t testing.TB) string {
	t.Helper()
	for {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		_ = l.Close()
		if _, again := addresses.LoadOrStore(address, true); !again {
			return address
		}
	}
}

// Spec says what to run and how to see that it is ready. Of the Ready fields those that are set must all hold.
type Spec struct {
	Path string
	Args []string
	// Env is added to the environment of the test.
	Env []string
	Dir string

	// ReadyLine returns true for a line of output which says that the server is ready.
	ReadyLine func(line string) bool
	// ReadyAddress, as HOST:PORT, accepts connections when the server is ready.
	ReadyAddress string
	// ReadyURL answers with any status below 500 when the server is ready. Its certificate is not verified.
	ReadyURL string
}

// Process is a server that runs until the test ends.
type Process struct {
	spec Spec

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{}
	output *output
}

// Start starts a server, waits until it is ready, and stops it when the test ends.
func Start(t testing.TB, spec Spec) *Process {
	t.Helper()
	p := &Process{spec: spec}
	t.Cleanup(p.Kill)
	p.start(t)
	return p
}

func (p *Process) start(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	p.output = &output{ready: make(chan struct{}), isReady: p.spec.ReadyLine}
	p.cmd = exec.CommandContext(context.Background(), p.spec.Path, p.spec.Args...)
	p.cmd.Dir, p.cmd.Env = p.spec.Dir, append(os.Environ(), p.spec.Env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.done = make(chan struct{})
	cmd, done, started := p.cmd, p.done, make(chan error)
	p.mu.Unlock()
	go func() {
		// Its death is tied to that of the thread that started it, so that thread waits.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", p.spec.Path, err)
	}
	if err := p.wait(t.Context()); err != nil {
		t.Fatalf("starting %s: %v\n%s", p.spec.Path, err, p.Output())
	}
}

// wait returns when the server is ready.
func (p *Process) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.spec.ReadyLine != nil {
		select {
		case <-p.output.ready:
		case <-p.done:
			return errors.New("it ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("no line says that it is ready: %w", ctx.Err())
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := errors.Join(dial(ctx, p.spec.ReadyAddress), get(ctx, p.spec.ReadyURL))
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return errors.New("it ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("it is not ready after %s: %w", patience, err)
		}
	}
}

func dial(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

func get(ctx context.Context, url string) error {
	if url == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}} //nolint:gosec // only whether it answers is of interest
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode >= 500 {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return nil
}

// Pause stops the server where it is, and returns when it stands still: connections are taken, and none is answered.
func (p *Process) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil || p.cmd.Process.Signal(syscall.SIGSTOP) != nil {
		return // it has ended
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !stopped(p.cmd.Process.Pid) {
		<-tick.C
	}
}

// stopped reports whether a process stands still, or is no more (proc(5)).
func stopped(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name of the program may hold anything but this
	return strings.HasPrefix(rest, "T") || strings.HasPrefix(rest, "Z")
}

// Resume lets a paused server go on.
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

// Kill ends the server at once. It may be called again.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	p.end()
}

// Stop asks the server to end, and waits until it has.
func (p *Process) Stop() {
	p.signal(syscall.SIGTERM)
	p.end()
}

// Restart kills the server if it runs, starts it anew and waits until it is ready.
func (p *Process) Restart(t testing.TB) {
	t.Helper()
	p.Kill()
	p.start(t)
}

// Output returns what the server wrote since its last start.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(s) // one that has ended needs no signal
	}
}

// end waits until the server has ended. A server that does not end when asked is killed.
func (p *Process) end() {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-done
	}
}

// output keeps what a server writes, and sees the line that says that it is ready.
type output struct {
	isReady func(string) bool
	ready   chan struct{}

	mu   sync.Mutex
	all  bytes.Buffer
	line strings.Builder
	seen bool
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all.Write(data)
	if o.isReady == nil || o.seen {
		return len(data), nil
	}
	for _, b := range data {
		if b != '\n' {
			o.line.WriteByte(b)
			continue
		}
		if !o.seen && o.isReady(o.line.String()) {
			o.seen = true
			close(o.ready)
		}
		o.line.Reset()
	}
	return len(data), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}
