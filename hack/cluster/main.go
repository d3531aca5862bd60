// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command cluster runs a Kubernetes on this machine for the tests of Certwright, without a container engine and without
// downloading an image or a binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certwright/certwright/hack/cluster/internal/build"
	"github.com/certwright/certwright/hack/cluster/internal/cluster"
	"golang.org/x/sys/unix"
)

const (
	// defaultDir is the folder of the cluster.
	defaultDir = "/var/lib/certwright-cluster"
	// defaultRelease is the release of Kubernetes to run.
	defaultRelease = "1.37"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		stop()
		os.Exit(1)
	}
}

// run does what the arguments say.
func run(ctx context.Context, arguments []string) error {
	if len(arguments) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, arguments[0]) {
		fmt.Print(help)
		return nil
	}
	command, arguments := arguments[0], arguments[1:]
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(os.Stderr)
	flags.Usage = func() { fmt.Fprint(os.Stderr, help) }
	release, kubelet := new(string), new(string)
	follow := new(bool)
	clock := new(string)
	switch command {
	case "restart":
		flags.StringVar(clock, "kubelet-clock", "", "")
	case "up", "build":
		flags.StringVar(release, "kubernetes", valueOr(os.Getenv("CERTWRIGHT_KUBERNETES"), defaultRelease), "")
		flags.StringVar(kubelet, "kubelet", os.Getenv("CERTWRIGHT_KUBELET"), "")
	case "logs":
		flags.BoolVar(follow, "follow", false, "")
		flags.BoolVar(follow, "f", false, "")
	}
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return fmt.Errorf("%w; see \"cluster help\"", err)
	}
	c, err := newCluster()
	if err != nil {
		return err
	}
	if flags.NArg() > 0 && !slices.Contains([]string{"load", "logs", "restart"}, command) {
		return fmt.Errorf("%s takes no argument %q; see \"cluster help\"", command, flags.Arg(0))
	}
	switch command {
	case "up":
		return c.Up(ctx, cluster.NewVersion(*release, *kubelet))
	case "build":
		return c.Build(ctx, cluster.NewVersion(*release, *kubelet))
	case "down":
		return c.Down(ctx)
	case "restart":
		return restart(ctx, c, *clock, flags.Args())
	case "status":
		return c.Status(ctx)
	case "load":
		return load(ctx, c, flags.Args())
	case "logs":
		return logs(ctx, c, flags.Args(), *follow)
	case "kubeconfig":
		fmt.Println(c.Kubeconfig())
		return nil
	default:
		return fmt.Errorf("no command %q; see \"cluster help\"", command)
	}
}

// newCluster finds the cluster's folders from the environment.
func newCluster() (*cluster.Cluster, error) {
	// What the cluster needs is where a user's PATH often does not lead.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, err
	}
	home, _ := os.UserHomeDir() // Cache says what to do without one.
	cache, err := build.Cache(os.Getenv("XDG_CACHE_HOME"), home)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(valueOr(os.Getenv("CERTWRIGHT_CLUSTER_DIR"), defaultDir))
	if err != nil {
		return nil, err
	}
	starts := []string{"."}
	if program, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(program))
	}
	return &cluster.Cluster{Dir: dir, Cache: cache, Starts: starts, Out: os.Stdout}, nil
}

// load loads image files.
func load(ctx context.Context, c *cluster.Cluster, files []string) error {
	if len(files) == 0 {
		return errors.New("load needs at least one image file, as \"docker save\" or hack/images write it")
	}
	return c.Load(ctx, files)
}

// restart restarts components.
func restart(ctx context.Context, c *cluster.Cluster, clock string, components []string) error {
	if len(components) == 0 {
		return errors.New("restart needs at least one component, such as kube-apiserver")
	}
	return c.Restart(ctx, clock, components...)
}

// logs prints the log of a component, or lists the logs.
func logs(ctx context.Context, c *cluster.Cluster, components []string, follow bool) error {
	if len(components) == 0 {
		files, err := filepath.Glob(filepath.Join(c.Logs(), "*.log"))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return cluster.ErrDown
		}
		fmt.Println(strings.Join(append(files, filepath.Join(c.Logs(), "pods")), "\n"))
		return nil
	}
	arguments := []string{"--lines=+1"}
	if follow {
		arguments = []string{"--lines=50", "--follow=name", "--retry"}
	}
	for _, component := range components {
		file, err := c.LogFile(component)
		if err != nil {
			return err
		}
		arguments = append(arguments, file)
	}
	tail := exec.CommandContext(ctx, "tail", arguments...)
	tail.Stdout, tail.Stderr = os.Stdout, os.Stderr
	if err := tail.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("printing logs: %w", err)
	}
	return nil
}

// valueOr returns the value, or the default one if it is empty.
func valueOr(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
