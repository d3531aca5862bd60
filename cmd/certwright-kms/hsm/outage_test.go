// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package hsm_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer/ca/device"
)

// p11KitClient is a module that reaches a token by way of a daemon, as those of network HSMs do.
const p11KitClient = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"

// wire stands between a module and its daemon, and may be cut or stopped.
type wire struct {
	daemon   string
	process  *servers.Process
	listener net.Listener

	mu      sync.Mutex
	cond    *sync.Cond
	stopped bool
	cut     bool
	open    map[net.Conn]bool
}

// newDaemon starts a daemon that serves SoftHSM's tokens, with a wire to it that p11KitClient finds.
func newDaemon(t *testing.T) *wire {
	t.Helper()
	program, err := exec.LookPath("p11-kit")
	if err != nil {
		t.Fatalf("%v: install the package p11-kit", err)
	}
	dir, err := os.MkdirTemp("", "p11") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &wire{daemon: filepath.Join(dir, "daemon"), open: map[net.Conn]bool{}}
	w.cond = sync.NewCond(&w.mu)
	w.process = servers.Start(t, servers.Spec{
		Path: program, Args: []string{"server", "--foreground", "--name", w.daemon, "--provider", softHSM, "pkcs11:"},
		ReadyLine: func(line string) bool { return strings.Contains(line, "P11_KIT_SERVER_PID") },
	})
	socket := filepath.Join(dir, "wire")
	if w.listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.listener.Close(); w.set(true, false) })
	t.Setenv("P11_KIT_SERVER_ADDRESS", "unix:path="+socket)
	go w.serve()
	return w
}

func (w *wire) serve() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", w.daemon)
		w.mu.Lock()
		if err != nil || w.cut {
			near.Close()
			if err == nil {
				far.Close()
			}
			w.mu.Unlock()
			continue
		}
		w.open[near], w.open[far] = true, true
		w.mu.Unlock()
		go w.copy(far, near)
		go w.copy(near, far)
	}
}

func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		w.mu.Lock()
		for w.stopped {
			w.cond.Wait()
		}
		w.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// set cuts the wire, so that all connections end and new ones do too, or stops it, so that nothing comes through.
func (w *wire) set(cut, stopped bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.stopped = cut, stopped
	if cut {
		for c := range w.open {
			c.Close()
		}
		clear(w.open)
	}
	w.cond.Broadcast()
}

// restart starts the daemon anew, which all its clients notice.
func (w *wire) restart(t *testing.T) {
	t.Helper()
	w.set(true, false)
	w.process.Restart(t)
	w.set(false, false)
}

func remoteURI(object string) string {
	return "pkcs11:token=test;object=" + object + "?module-path=" + p11KitClient
}

func TestDaemonGoneAndBack(t *testing.T) {
	for _, algorithm := range []string{"ECDSA-P256", "RSA-2048"} {
		t.Run(algorithm, func(t *testing.T) {
			daemon := newDaemon(t)
			w := newWorld(t, remoteURI(algorithm), string(certificates[algorithm]), pin)
			for range 3 {
				if err := w.sign(5 * time.Second); err != nil {
					t.Fatal(err)
				}
			}
			daemon.set(true, false)
			if err := w.sign(5 * time.Second); err == nil {
				t.Error("signed without a device")
			}
			wantReason(t, w.Check(t.Context()), "KeyUnavailable")
			opened := w.opened.Load()
			for range 10 {
				if err := w.sign(time.Second); err == nil {
					t.Error("signed without a device")
				}
			}
			if again := w.opened.Load() - opened; again != 0 {
				t.Errorf("%d attempts to open the key within %s of the last one", again, device.RetryPause)
			}
			w.clock.Step(device.RetryPause)
			if err := w.sign(time.Second); err == nil {
				t.Error("signed without a device")
			}
			if anchors, err := w.TrustAnchors(t.Context()); err != nil || len(anchors) != 1 {
				t.Errorf("trust anchors are %d certificates, %v: they do not depend on the device", len(anchors), err)
			}
			daemon.set(false, false)
			w.clock.Step(device.RetryPause)
			if err := w.sign(5 * time.Second); err != nil {
				t.Errorf("after the daemon came back: %v", err)
			}
			if err := w.Check(t.Context()); err != nil {
				t.Errorf("after the daemon came back: %v", err)
			}
		})
	}
}

// A session that ended is noticed when it is used, and the request that noticed it is signed all the same.
func TestDaemonRestartedUnnoticed(t *testing.T) {
	daemon := newDaemon(t)
	w := newWorld(t, remoteURI("ECDSA-P256"), string(certificates["ECDSA-P256"]), pin)
	if err := w.sign(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	daemon.set(true, false)
	daemon.set(false, false)
	w.clock.Step(time.Hour)
	if err := w.sign(5 * time.Second); err != nil {
		t.Error(err)
	}
	if n := w.opened.Load(); n != 2 {
		t.Errorf("the key was opened %d times, want 2", n)
	}
}

// SoftHSM reads its tokens when it starts: one whose folder was moved away before is one that was pulled.
func TestTokenPulledAndBack(t *testing.T) {
	daemon := newDaemon(t)
	w := newWorld(t, "pkcs11:token=pulled;object=ca?module-path="+p11KitClient, string(certificates["pulled"]), pin)
	if err := w.sign(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	away := filepath.Join(t.TempDir(), "pulled")
	if err := os.Rename(folders["pulled"], away); err != nil {
		t.Fatal(err)
	}
	daemon.restart(t)
	w.clock.Step(time.Hour)
	if err := w.sign(5 * time.Second); err == nil {
		t.Error("signed without a token")
	}
	err := w.Check(t.Context())
	wantReason(t, err, "KeyUnavailable")
	if err == nil || !strings.Contains(err.Error(), "no token") {
		t.Errorf("%v, want it to say that there is no such token", err)
	}
	if err := os.Rename(away, folders["pulled"]); err != nil {
		t.Fatal(err)
	}
	daemon.restart(t)
	w.clock.Step(device.RetryPause)
	if err := w.sign(5 * time.Second); err != nil {
		t.Errorf("after the token came back: %v", err)
	}
}

func TestHangingDevice(t *testing.T) {
	daemon := newDaemon(t)
	w := newWorld(t, remoteURI("ECDSA-P256"), string(certificates["ECDSA-P256"]), pin)
	if err := w.sign(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	daemon.set(false, true)
	before := runtime.NumGoroutine()
	var callers sync.WaitGroup
	began := time.Now()
	for range 4 * device.MaxSignatures {
		callers.Go(func() {
			if err := w.sign(300 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a device that hangs: %v, want the context's error", err)
			}
		})
	}
	callers.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("callers waited %s for a device that hangs", took)
	}
	if more := runtime.NumGoroutine() - before; more > device.MaxSignatures+2 {
		t.Errorf("%d goroutines are stuck in the device, want at most %d", more, device.MaxSignatures)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	w.clock.Step(device.ProofInterval)
	wantReason(t, w.Check(ctx), "KeyUnavailable")
	daemon.set(false, false)
	if err := w.sign(10 * time.Second); err != nil {
		t.Errorf("after the device went on: %v", err)
	}
	if n := w.opened.Load(); n != 1 {
		t.Errorf("the key was opened %d times, want 1", n)
	}
}

// A device that hangs while its backend is given up holds up nobody.
func TestCloseWhileHanging(t *testing.T) {
	daemon := newDaemon(t)
	w := newWorld(t, remoteURI("ECDSA-P256"), string(certificates["ECDSA-P256"]), pin)
	if err := w.sign(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	daemon.set(false, true)
	_ = w.sign(100 * time.Millisecond)
	began := time.Now()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("closing took %s", took)
	}
	daemon.set(false, false)
	if err := w.sign(time.Second); err == nil {
		t.Error("signed by a key that was closed")
	}
}
