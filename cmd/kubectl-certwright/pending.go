// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/gate"
	"github.com/certwright/certwright/terminal"
)

func newPending(c *cli) *cobra.Command {
	var signer string
	var watch bool
	var output format
	cmd := &cobra.Command{
		Use:   "pending",
		Short: "Show the certificate requests that nobody has decided about",
		Long: `Show the CertificateSigningRequests that nobody has decided about, what they ask for, what they wait for, and how long
until Kubernetes deletes them. What they wait for is what the policies of the cluster say, asked with your own rights.

Requests that the approver decides about are shown only if they wait for longer than a minute.`,
		Example: `  # All that wait
  kubectl certwright pending

  # Those for one signerName, and then each new one as it comes
  kubectl certwright pending --signer certwright.dev/internal --watch`,
		Args:              between(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := c.gate()
			if err != nil {
				return err
			}
			warned := ""
			warn := func(problem string) {
				if problem != "" && problem != warned {
					fmt.Fprintf(c.ErrOut, "warning: policies cannot be asked about all of them: %s\n", terminal.Escape(problem))
				}
				warned = problem
			}
			if watch {
				first := true
				return g.Watch(cmd.Context(), signer, func(waiting []gate.Waiting, problem string) error {
					warn(problem)
					headers := first
					first = false
					return c.write(output, waiting, func() error { return gate.WriteTable(c.Out, waiting, headers, c.clock.Now()) })
				})
			}
			waiting, problem, err := g.Pending(cmd.Context(), signer)
			if err != nil {
				return err
			}
			warn(problem)
			if waiting == nil {
				waiting = []gate.Waiting{}
			}
			return c.write(output, waiting, func() error {
				if len(waiting) == 0 {
					_, err := fmt.Fprintln(c.ErrOut, "Nothing waits.")
					return err
				}
				if err := gate.WriteTable(c.Out, waiting, true, c.clock.Now()); err != nil {
					return err
				}
				return gate.WriteHint(c.ErrOut, waiting)
			})
		},
	}
	cmd.Flags().StringVar(&signer, "signer", "", "show only requests for this signerName")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on and show each new request as it comes")
	completeFlag(cmd, "signer", c.signerNames)
	output.addFlag(cmd, "table", "json", "yaml")
	return cmd
}
