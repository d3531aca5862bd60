// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command certwright runs one component of Certwright: the approver, the signer or the webhook.
package main

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/certwright/certwright/cmd/internal/harden"
	"github.com/certwright/certwright/version"
)

func main() {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "certwright:", err)
		os.Exit(1)
	}
	root := &cobra.Command{
		Use:           "certwright",
		Short:         "Certificates for workloads on Kubernetes",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newApprover(), newSigner(), newWebhook())
	if err := root.ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		root.PrintErrln("certwright:", err)
		os.Exit(1)
	}
}

// prepare keeps the keys of CAs and of the webhook in this process, and the process below its container's limit of memory:
// GOMEMLIMIT is that limit where our manifests set it, and a tenth of it is for what the Go runtime does not count.
func prepare() error {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
	return harden.Process()
}
