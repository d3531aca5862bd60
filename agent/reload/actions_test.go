// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certwright/certwright/agent/agenttest"
)

// TestMain lets the test binary be the processes that get signals: a master that
// tells of each on its output and, if asked, has a worker of the same name.
func TestMain(m *testing.M) {
	if os.Getenv("CERTWRIGHT_TEST_PROCESS") == "" {
		os.Exit(m.Run())
	}
	got := make(chan os.Signal, 8)
	signal.Notify(got, syscall.SIGHUP, syscall.SIGUSR1)
	if os.Getenv("CERTWRIGHT_TEST_WORKER") != "" {
		worker := exec.Command(os.Args[0])
		worker.Env = []string{"CERTWRIGHT_TEST_PROCESS=1"}
		worker.Stdout, worker.Stdin = os.Stdout, os.Stdin
		worker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := worker.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	} else {
		fmt.Println("ready")
	}
	for s := range got {
		fmt.Println(os.Getpid(), s)
	}
}

// master starts a process of the name, which the kernel takes from the program's
// file, and returns what it prints.
func master(t *testing.T, name string, worker bool) (pid int, lines *bufio.Scanner) {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(agenttest.Must(os.Executable())(t), program); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program)
	command.Env = []string{"CERTWRIGHT_TEST_PROCESS=1", "GOCOVERDIR=" + t.TempDir()}
	if worker {
		command.Env = append(command.Env, "CERTWRIGHT_TEST_WORKER=1")
	}
	output := agenttest.Must(command.StdoutPipe())(t)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	lines = bufio.NewScanner(output)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("printed %q", lines.Text())
	}
	return command.Process.Pid, lines
}

func TestSignalReachesTheMasterAlone(t *testing.T) {
	for _, name := range []string{"cw-test-plain", "cw (te)st) 1", "cw te\nst", "15-bytes-exactl"} {
		t.Run(name, func(t *testing.T) {
			pid, lines := master(t, name, true)
			target := target{proc: "/proc", name: name}
			for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1} {
				if err := target.signal(signal); err != nil {
					t.Fatal(err)
				}
				if want := fmt.Sprint(pid, " ", signal); !lines.Scan() || lines.Text() != want {
					t.Errorf("printed %q, want %q of the master", lines.Text(), want)
				}
			}
		})
	}
}

func TestSignalOfNobody(t *testing.T) {
	err := target{proc: "/proc", name: "cw-nobody"}.signal(syscall.SIGHUP)
	if err == nil || !strings.Contains(err.Error(), "shareProcessNamespace: true") {
		t.Errorf("error %v", err)
	}
	if err := (target{proc: "/nowhere", name: "x"}).signal(syscall.SIGHUP); err == nil {
		t.Error("no error without /proc")
	}
}

// Neither process 1 nor the agent itself ever gets a signal, whatever their names are.
func TestSignalSparesTheFirstProcessAndItself(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGWINCH)
	defer signal.Stop(got)
	proc := t.TempDir()
	for _, pid := range []int{1, os.Getpid()} {
		if err := os.Mkdir(filepath.Join(proc, strconv.Itoa(pid)), 0o700); err != nil {
			t.Fatal(err)
		}
		stat := fmt.Sprintf("%d (victim) S 0 0 0", pid)
		if err := os.WriteFile(filepath.Join(proc, strconv.Itoa(pid), "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (target{proc: proc, name: "victim"}).signal(syscall.SIGWINCH); err == nil || !strings.Contains(err.Error(), "no process of the name") {
		t.Errorf("error %v, want that there is none", err)
	}
	select {
	case <-got:
		t.Error("it signalled itself")
	default:
	}
}

// A name that looks like more than a name does not change what is read as state and parent.
func TestStatOfOddNames(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "7"), 0o700); err != nil {
		t.Fatal(err)
	}
	for stat, want := range map[string]string{
		"7 (nginx) S 3 7 7":             "nginx S 3",
		"7 (a) Z 1 (b) S 3 7 7":         "a) Z 1 (b S 3",
		"7 () R 0":                      " R 0",
		"7 ((((() R 5":                  "(((( R 5",
		"7 nginx S 3":                   "error",
		"7 (nginx":                      "error",
		"7 )nginx( S 3":                 "error",
		"7 (nginx) ":                    "error",
		"7 (nginx) Sleeping 3":          "error",
		"7 (nginx) S x":                 "error",
		"":                              "error",
		"7 (nginx) S 99999999999999999": "nginx S 99999999999999999",
	} {
		if err := os.WriteFile(filepath.Join(proc, "7", "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
		name, state, parent, err := target{proc: proc}.stat(7)
		got := fmt.Sprintf("%s %c %d", name, state, parent)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", stat, got, want)
		}
	}
}

func TestSignalOfAnotherUsersProcess(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root, as all tests of this project")
	}
	master(t, "cw-test-foreign", false)
	command := exec.Command("/bin/sh", "-c", `kill -0 "$1"`, "sh", "1")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if command.Run() == nil {
		t.Fatal("another user may signal all processes here, so the test would prove nothing")
	}
	var err error
	agenttest.As(t, 65532, func() { err = target{proc: "/proc", name: "cw-test-foreign"}.signal(syscall.SIGHUP) })
	if err == nil || !strings.Contains(err.Error(), "does not belong to user") {
		t.Errorf("error %v", err)
	}
}

func TestPost(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/good":
			if r.Method != http.MethodPost || len(body) > 0 {
				t.Errorf("%s with %q", r.Method, body)
			}
			w.WriteHeader(http.StatusNoContent)
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		case "/redirect":
			http.Redirect(w, r, other.URL+"/stolen", http.StatusTemporaryRedirect)
		case "/headers":
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		default:
			http.Error(w, "secret", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/good": "", "/endless": "", "/redirect": "answered 307", "/bad": "answered 500", "/headers": "exceeded",
	} {
		for _, host := range []string{"127.0.0.1", "localhost"} {
			err := post(t.Context(), "http://"+net.JoinHostPort(host, port)+path)
			if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%s: error %v, want %q", path, err, want)
			}
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("followed a redirect %d times", n)
	}
}

// The pod's /etc/hosts is its owner's: localhost may be any address there.
func TestPostLeavesThePodForNoName(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:80": true, "127.0.0.53:80": true, "[::1]:80": true,
		"198.18.0.1:80": false, "0.0.0.0:80": false, "[::]:80": false, "169.254.169.254:80": false, "[fe80::1]:80": false, "[fd00::1]:80": false, "x": false,
	} {
		if err := loopbackOnly("tcp", address, nil); (err == nil) != allowed {
			t.Errorf("%s: error %v, want allowed: %t", address, err, allowed)
		}
	}
	if err := post(t.Context(), "http://198.18.0.1:9/"); err == nil || !strings.Contains(err.Error(), "not an address of the pod's own loopback interface") {
		t.Errorf("error %v", err)
	}
}

func TestCommand(t *testing.T) {
	t.Setenv("CERTWRIGHT_AGENT_CONFIG", "the agent's own")
	for name, test := range map[string]struct {
		arguments []string
		problem   string
		output    string
	}{
		"works":             {[]string{"/bin/echo", "hello", "$HOME", "; false"}, "", "hello $HOME ; false"},
		"fails":             {[]string{"/bin/sh", "-c", "echo no >&2; exit 3"}, "exit status 3", "no"},
		"is not there":      {[]string{"/reload/none"}, "no such file", ""},
		"its environment":   {[]string{"/usr/bin/env"}, "", "CERTWRIGHT_DIRECTORY=/tls"},
		"writes a lot":      {[]string{"/bin/sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x"}, "", "xxxx"},
		"leaves one behind": {[]string{"/bin/sh", "-c", "sleep 1000 & echo gone"}, "", "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			err := run(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), test.arguments, "/tls")
			if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
				t.Errorf("error %v, want %q", err, test.problem)
			}
			if !strings.Contains(log.String(), test.output) || log.Len() > 2*maxOutput || strings.Contains(log.String(), "the agent's own") {
				t.Errorf("%d bytes of log: %.200s", log.Len(), log.String())
			}
		})
	}
}

// A command that does not end is killed with all that it started.
func TestCommandIsKilledWithItsChildren(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pids := filepath.Join(t.TempDir(), "pids")
	if err := syscall.Mkfifo(pids, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, slog.New(slog.DiscardHandler), []string{"/bin/sh", "-c", `sleep 1000 & echo $! > "$0"; wait`, pids}, "/tls")
	}()
	text := agenttest.Must(os.ReadFile(pids))(t) // waits for the writer
	child := agenttest.Must(strconv.Atoi(strings.TrimSpace(string(text))))(t)
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it still runs")
	}
	// The kernel takes a moment to end it.
	timeout := time.After(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		_, state, _, err := target{proc: "/proc"}.stat(child)
		if err != nil || state == 'Z' || state == 'X' {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("its child is still there, in state %c", state)
		}
	}
}
