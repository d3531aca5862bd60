// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// asServer is set in the environment of this test's program when it is to be the server.
const asServer = "SERVERS_TEST_ADDRESS"

func TestMain(m *testing.M) {
	address := os.Getenv(asServer)
	if address == "" {
		os.Exit(m.Run())
	}
	fmt.Println("about to serve")
	fmt.Println("ready at", address)
	//nolint:gosec // a server of a moment on loopback
	fmt.Println(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })))
}

func start(t *testing.T) (p *Process, ask func(patience time.Duration) error) {
	address := Address(t)
	p = Start(t, Spec{
		Path: os.Args[0], Env: []string{asServer + "=" + address}, ReadyAddress: address, ReadyURL: "http://" + address,
		ReadyLine: func(line string) bool { return strings.HasPrefix(line, "ready at") },
	})
	return p, func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return get(ctx, "http://"+address)
	}
}

func TestServerRunsUntilItIsKilled(t *testing.T) {
	p, ask := start(t)
	if err := ask(patience); err != nil {
		t.Errorf("a server that was ready: %v", err)
	}
	if !strings.Contains(p.Output(), "ready at") {
		t.Errorf("its output is %q", p.Output())
	}
	p.Kill()
	if err := ask(patience); err == nil {
		t.Error("a killed server answers")
	}
	p.Restart(t)
	if err := ask(patience); err != nil {
		t.Errorf("a server that was started again: %v", err)
	}
	p.Stop()
	if err := ask(patience); err == nil {
		t.Error("a stopped server answers")
	}
}

func TestPausedServerAnswersWhenItGoesOn(t *testing.T) {
	p, ask := start(t)
	p.Pause()
	if err := ask(200 * time.Millisecond); err == nil {
		t.Error("a paused server answers")
	}
	p.Resume()
	if err := ask(patience); err != nil {
		t.Errorf("a server that goes on: %v", err)
	}
}

func TestAddressesDiffer(t *testing.T) {
	if a, b := Address(t), Address(t); a == b {
		t.Errorf("twice the same address %s", a)
	}
}
