// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package component wires the approver, the signer and the webhook into one command. The programs that are built from it
// differ only in what they can open keys with.
package component

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/certwright/certwright/cmd/internal/harden"
	"github.com/certwright/certwright/signer/ca"
	"github.com/certwright/certwright/version"
)

// Main runs the component that the arguments of the process name, and ends the process. The keys of CAs that are kept
// outside Kubernetes are opened by openKey; nil is for a program that cannot. The flags are those of openKey: the signer has them.
func Main(openKey ca.OpenKey, flags ...*pflag.FlagSet) {
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
	root.AddCommand(newApprover(), newSigner(openKey, flags...), newWebhook(openKey))
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
