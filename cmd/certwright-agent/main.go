// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command certwright-agent runs inside the pods of workloads and keeps one key
// pair, or trust anchors alone, in a directory fresh. It has no flags: the webhook that adds it to a pod
// configures it through the environment (see package agent).
//
// Exit codes: 0 when all went well or SIGTERM came, 1 when it failed or the
// directory is not healthy, 2 when it was called wrongly.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/agent/apiserver"
	"github.com/certwright/certwright/agent/backoff"
	"github.com/certwright/certwright/agent/keeper"
	"github.com/certwright/certwright/agent/spiffe"
	"github.com/certwright/certwright/cmd/internal/harden"
)

// version is set by the linker.
var version = "dev"

const usage = `certwright-agent keeps tls.crt, tls.key and ca.crt in a directory fresh.

  certwright-agent [run]    keep the key pair fresh until SIGTERM
  certwright-agent health   exit 0 when the directory holds a valid key pair, else 1
  certwright-agent version  print the version

Environment: ` + agent.ConfigEnv + ` (JSON), ` + agent.PodIPsEnv + `,
KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT.
`

// maxTermination is how much of a termination message the kubelet keeps.
const maxTermination = 4096

// process is what the program needs from its surroundings.
type process struct {
	getenv         func(string) string
	stdout, stderr io.Writer
	serviceAccount string // the directory of token and ca.crt
	terminationLog string // the file whose text kubectl describe pod shows
}

func main() {
	p := process{
		getenv: os.Getenv, stdout: os.Stdout, stderr: os.Stderr,
		serviceAccount: "/var/run/secrets/kubernetes.io/serviceaccount",
		terminationLog: "/dev/termination-log",
	}
	os.Exit(p.execute(os.Args[1:]))
}

// execute runs a subcommand and returns the exit code.
func (p process) execute(args []string) int {
	if err := harden.Process(); err != nil {
		fmt.Fprintln(p.stderr, err)
		return 1
	}
	command := "run"
	if len(args) == 1 {
		command = args[0]
	}
	switch {
	case len(args) > 1:
	case command == "run":
		return p.run()
	case command == "health":
		return p.health()
	case command == "version":
		fmt.Fprintln(p.stdout, version)
		return 0
	case command == "help", command == "-h", command == "--help":
		fmt.Fprint(p.stdout, usage)
		return 0
	}
	fmt.Fprintf(p.stderr, "unknown arguments %q\n\n%s", args, usage)
	return 2
}

func (p process) run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	p.limitMemory()
	log := slog.New(slog.NewTextHandler(p.stderr, nil))
	err := p.keep(ctx, log)
	if err == nil {
		return 0
	}
	message := err.Error()
	log.Error(message)
	if err := os.WriteFile(p.terminationLog, []byte(message[:min(len(message), maxTermination)]), 0o644); err != nil {
		log.Warn("writing the termination message: " + err.Error())
	}
	return 1
}

func (p process) keep(ctx context.Context, log *slog.Logger) error {
	config, err := p.config()
	if err != nil {
		return err
	}
	host, port := p.getenv("KUBERNETES_SERVICE_HOST"), p.getenv("KUBERNETES_SERVICE_PORT")
	if (host == "" || port == "") && !config.TrustOnly {
		return errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set: the agent runs in pods only, where the kubelet sets them")
	}
	options := keeper.Options{
		API: apiserver.NewClient(host, port,
			filepath.Join(p.serviceAccount, "token"), filepath.Join(p.serviceAccount, "ca.crt"),
			"certwright-agent/"+version),
		Log:    log,
		PodIPs: p.getenv(agent.PodIPsEnv),
		Clock:  clock.RealClock{},
		Jitter: rand.Float64,

		Started: started(),
	}
	if config.SPIFFESocket != "" {
		defer serveSPIFFE(ctx, config.SPIFFESocket, &options)()
	}
	manager, err := keeper.New(config, options)
	if err != nil {
		return err
	}
	return manager.Run(ctx)
}

// serveSPIFFE serves what the agent keeps on a socket. Trouble with it does not
// touch the files: it is tried again. The returned function ends it.
func serveSPIFFE(ctx context.Context, socket string, options *keeper.Options) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	log, wait := options.Log, backoff.New(time.Second, time.Minute, options.Jitter)
	server := spiffe.New(socket, log)
	options.Changed = func(s keeper.Snapshot) {
		if err := server.Update(s.Chain, s.Key, s.Bundle); err != nil {
			log.Error("serving the certificate to SPIFFE clients: " + err.Error())
		}
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for ctx.Err() == nil {
			if err := server.Run(ctx); err != nil && ctx.Err() == nil {
				pause := wait.Next()
				log.Error("serving SPIFFE clients: "+err.Error(), "retryIn", pause.Round(time.Millisecond))
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		}
	})
	return func() {
		cancel()
		serving.Wait()
	}
}

// started is when the kernel started this process, to a hundredth of a second; zero
// when /proc does not say.
func started() time.Time {
	var boot unix.Timespec
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return time.Time{}
	}
	// The name, in parentheses, may hold anything; starttime is field 22 (proc_pid_stat(5)).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return time.Time{}
	}
	hundredths, err := strconv.ParseInt(string(fields[19]), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(hundredths)*10*time.Millisecond - time.Duration(boot.Nano()))
}

func (p process) health() int {
	config, err := p.config()
	if err == nil {
		var line string
		if line, err = keeper.Health(config, p.getenv(agent.PodIPsEnv), time.Now()); err == nil {
			fmt.Fprintln(p.stdout, line)
			return 0
		}
	}
	fmt.Fprintln(p.stderr, err)
	return 1
}

func (p process) config() (agent.Config, error) {
	text := p.getenv(agent.ConfigEnv)
	if text == "" {
		return agent.Config{}, errors.New(agent.ConfigEnv + " is not set: it must hold the agent's configuration as JSON")
	}
	return agent.ParseConfig([]byte(text))
}

// limitMemory keeps the heap as small as the few kilobytes that live on it
// allow; GOGC and GOMEMLIMIT in the environment have the last word.
func (p process) limitMemory() {
	if p.getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	if p.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(16 << 20)
	}
}
