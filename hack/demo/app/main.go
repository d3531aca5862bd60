// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo is a server and a client that know nothing of Certwright: they read a certificate, a key and a trust bundle
// from a directory, as most programs can, and talk mutual TLS. The client counts what it sees.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage:
  demo server [--listen :8443] [--tls DIR]
  demo client --url https://HOST:PORT [--interval 200ms] [--tls DIR]
  demo fleet  --service HOST [--listen :8443] [--interval 200ms] [--tls DIR] [--bundle FILE]   serve and call all that are behind HOST
  demo show   [--tls DIR]     print the certificate in DIR, then wait
  demo look   [--tls DIR] [--follow]   print modes, owners and fingerprints of what is in DIR; again at each change
  demo hear   [--tls DIR] [--listen :8443]   look each time that a POST comes in
  demo read FILE              print FILE as it is
  demo copy FILE              copy this program to FILE
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	if args[0] == "read" && len(args) == 2 {
		text, err := os.ReadFile(args[1])
		if err == nil {
			_, err = os.Stdout.Write(text)
		}
		return err
	}
	if args[0] == "copy" && len(args) == 2 {
		return copyItself(args[1])
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	dir := flags.String("tls", "/var/run/secrets/certwright.dev/tls", "directory with tls.crt, tls.key and ca.crt")
	listen := flags.String("listen", ":8443", "address to serve on (server, fleet, hear)")
	url := flags.String("url", "", "what to get (client)")
	interval := flags.Duration("interval", 200*time.Millisecond, "time between connections (client)")
	service := flags.String("service", "", "name of the headless Service of the fleet (fleet)")
	bundle := flags.String("bundle", "", "file with the trust anchors (default: ca.crt in the directory)")
	follow := flags.Bool("follow", false, "print again whenever something changes (look)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	id := identity{dir: *dir, bundle: *bundle}
	switch args[0] {
	case "server":
		return serve(ctx, *listen, id)
	case "client":
		if *url == "" {
			return fmt.Errorf("--url is missing\n%s", usage)
		}
		return call(ctx, *url, *interval, id)
	case "fleet":
		if *service == "" {
			return fmt.Errorf("--service is missing\n%s", usage)
		}
		return beOfFleet(ctx, *listen, *service, *interval, id)
	case "hear":
		return hear(ctx, *listen, id)
	case "show":
		return show(ctx, id)
	case "look":
		return lookAround(ctx, id, *follow)
	}
	return fmt.Errorf("unknown command %q\n%s", args[0], usage)
}
