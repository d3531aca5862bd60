// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command certwright runs one component of Certwright: the approver, the signer or the webhook.
package main

import (
	"os"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/certwright/certwright/version"
)

func main() {
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
