// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certwright/certwright/gate"
	"github.com/certwright/certwright/terminal"
)

func newApprove(c *cli) *cobra.Command {
	var d decision
	cmd := &cobra.Command{
		Use:   "approve NAME...",
		Short: "Approve certificate requests, after a look at them",
		Long: `Show each request and what policies say to it, ask, and approve it. What was shown is what gets approved: if the request
changed in between, nothing is written.

Policies hold whoever approves: the signer asks them again. A request that they do not permit is therefore not approved,
unless --force is given, and then it will not be signed.`,
		Example: `  # Look, be asked, approve
  kubectl certwright approve NAME

  # Approve two without being asked
  kubectl certwright approve --yes --reason "new laptop, see the ticket" NAME NAME`,
		Args:              between(1, anyNumber),
		ValidArgsFunction: c.requests(true),
		RunE: func(cmd *cobra.Command, names []string) error {
			return d.each(cmd.Context(), c, names, (*gate.Desk).Approve)
		},
	}
	d.addFlags(cmd)
	cmd.Flags().BoolVar(&d.force, "force", false, "approve even what no policy permits: the signer will refuse to sign it")
	return cmd
}

func newDeny(c *cli) *cobra.Command {
	var d decision
	cmd := &cobra.Command{
		Use:   "deny NAME... --reason TEXT",
		Short: "Deny certificate requests, for a reason",
		Long: `Show each request, ask, and deny it. Whoever made the request reads the reason. A denial is final: the requester must
make a new request.`,
		Example:           `  kubectl certwright deny NAME --reason "ask for shop.example.com instead"`,
		Args:              between(1, anyNumber),
		ValidArgsFunction: c.requests(true),
		RunE: func(cmd *cobra.Command, names []string) error {
			if strings.TrimSpace(d.reason) == "" {
				return errors.New("--reason is not set: say why, for whoever made the request")
			}
			return d.each(cmd.Context(), c, names, (*gate.Desk).Deny)
		},
	}
	d.addFlags(cmd)
	return cmd
}

// decision are the flags of approve and deny.
type decision struct {
	reason     string
	yes, force bool
}

func (d *decision) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.reason, "reason", "", "why, as the message of the request's condition")
	cmd.Flags().BoolVarP(&d.yes, "yes", "y", false, "do not ask")
}

// each decides about one request after the other, and goes on after one about which it could not.
func (d *decision) each(ctx context.Context, c *cli, names []string, decide func(*gate.Desk, context.Context, string, string) error) error {
	g, err := c.gate()
	if err != nil {
		return err
	}
	desk := &gate.Desk{
		Gate: g, In: bufio.NewReader(c.In), Out: c.Out, Colors: c.palette(),
		Ask: terminal.IsTerminal(c.In) && terminal.IsTerminal(c.Out), Yes: d.yes, Force: d.force,
	}
	var errs []error
	for _, name := range names {
		if err := decide(desk, ctx, name, d.reason); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
