// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command certwright-dns is a DNS webhook for Route 53, Cloudflare, Google Cloud DNS, Azure DNS and DigitalOcean. It runs
// beside the signer in the same pod, which keeps the SDKs of the providers and their credentials out of the signer.
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // the public roots, as an image of one program has none

	"github.com/certwright/certwright/cmd/internal/harden"
	"github.com/certwright/certwright/version"
)

func main() {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "certwright-dns:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := &cobra.Command{
		Use:           "certwright-dns",
		Short:         "Writes the TXT records of ACME challenges to cloud DNS providers",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServe(os.Getenv), newConformance())
	if err := root.ExecuteContext(ctx); err != nil {
		root.PrintErrln("certwright-dns:", err)
		stop()
		os.Exit(1)
	}
}

// prepare keeps the providers' credentials in this process, and the process below its container's limit of memory.
func prepare() error {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
	return harden.Process()
}
