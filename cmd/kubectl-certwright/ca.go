// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/cmd/kubectl-certwright/rotation"
	"github.com/certwright/certwright/terminal"
)

func newCA(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Show the CAs of Signers, and replace them",
		Args:  cobra.NoArgs, // refuses a subcommand that does not exist
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCAStatus(c), newCARotate(c))
	return cmd
}

func newCAStatus(c *cli) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "status [SIGNER]",
		Short: "Show the CAs of all Signers or of one, and how far a replacement is",
		Example: `  # All, a line each
  kubectl certwright ca status

  # One, with fingerprints in full
  kubectl certwright ca status internal`,
		Args:              between(0, 1),
		ValidArgsFunction: only(c.signers()),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := c.rotator()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			rows, err := r.Rows(cmd.Context(), name)
			if err != nil {
				return err
			}
			return c.write(output, rows, func() error {
				switch {
				case name != "":
					return rotation.WriteText(c.Out, c.palette(), rows)
				case len(rows) == 0:
					_, err := fmt.Fprintln(c.ErrOut, "There are no Signers.")
					return err
				}
				return rotation.WriteTable(c.Out, rows, c.clock.Now())
			})
		},
	}
	output.addFlag(cmd, "text", "json", "yaml")
	return cmd
}

func newCARotate(c *cli) *cobra.Command {
	o := caRotate{cli: c}
	cmd := &cobra.Command{
		Use:   "rotate SIGNER",
		Short: "Replace the CA of a Signer that Certwright manages",
		Long: `Show which CA is meant, whom its replacement reaches and what happens when, ask, and have it replaced.

A root is replaced in phases: the new one is trusted before anything is signed with it, and the old one until nothing needs it.
An intermediate (--intermediate) is replaced at once, which nobody notices.

A root whose key is not secret any more (--compromised) is replaced at once and no longer trusted. What it signed is worth
nothing from then on, and connections fail until both sides have the new one. It wants the Signer's name typed, or --yes.

All of it goes on when this command ends. --wait follows it to the end, which takes as long as certificates live.`,
		Example: `  # What would happen?
  kubectl certwright ca rotate internal --dry-run

  # Replace the root, and see the phases
  kubectl certwright ca rotate internal --wait

  # Its key was stolen
  kubectl certwright ca rotate internal --compromised`,
		Args:              between(1, 1),
		ValidArgsFunction: only(c.signers()),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.backend, "backend", "", "the backend whose CA is meant, if several are managed")
	flags.BoolVar(&o.intermediate, "intermediate", false, "replace the intermediate and keep the root")
	flags.BoolVar(&o.compromised, "compromised", false, "replace the root at once, and trust the old one no longer")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask, and want no name typed")
	flags.BoolVar(&o.wait, "wait", false, "follow the phases to the end")
	o.dryRun.addFlag(cmd)
	return cmd
}

// caRotate are the flags of ca rotate.
type caRotate struct {
	*cli
	backend                              string
	intermediate, compromised, yes, wait bool
	dryRun                               dryRun
}

func (o *caRotate) run(ctx context.Context, name string) error {
	kind, err := o.kind()
	if err != nil {
		return err
	}
	r, err := o.rotator()
	if err != nil {
		return err
	}
	signer, err := r.Signer(ctx, name)
	if err != nil {
		return err
	}
	ca, err := rotation.Choose(signer, o.backend)
	if err != nil {
		return err
	}
	if err := ca.Check(kind); err != nil {
		return err
	}
	if err := rotation.Announce(o.Out, o.palette(), ca, kind, r.Radius(ctx, signer.Spec.SignerName)); err != nil {
		return err
	}
	fmt.Fprintln(o.Out)
	if o.dryRun.wanted() {
		return o.pretend(ctx, r, ca, kind)
	}
	if err := o.confirm(kind, name); err != nil {
		return err
	}
	if err := r.Start(ctx, ca, kind); err != nil {
		return err
	}
	if !o.wait {
		fmt.Fprintf(o.Out, "Asked for. To see how far it is: kubectl certwright ca status %s\n", name)
		return nil
	}
	fmt.Fprintln(o.Out, "Asked for. It goes on if you do not wait.")
	return r.Follow(ctx, ca, kind, func(words string) {
		fmt.Fprintf(o.Out, "%s  %s\n", o.clock.Now().UTC().Format("15:04:05Z"), terminal.Escape(words))
	})
}

// kind says what is to be replaced, and how.
func (o *caRotate) kind() (rotation.Kind, error) {
	switch {
	case o.intermediate && o.compromised:
		return "", errors.New("--intermediate and --compromised exclude each other: a new root comes with a new intermediate")
	case o.dryRun.wanted() && o.wait:
		return "", errors.New("--wait waits for what is done, and --dry-run does nothing: leave one of them out")
	case o.intermediate:
		return rotation.Intermediate, nil
	case o.compromised:
		return rotation.Compromised, nil
	}
	return rotation.Root, nil
}

// pretend has the API server check what would be written, if that is wanted.
func (o *caRotate) pretend(ctx context.Context, r *rotation.Rotator, ca rotation.CA, kind rotation.Kind) error {
	if o.dryRun.asksServer() {
		if err := r.Start(ctx, ca, kind, client.DryRunAll); err != nil {
			return err
		}
	}
	fmt.Fprintln(o.Out, "Nothing was written.")
	return nil
}

func (o *caRotate) confirm(kind rotation.Kind, name string) error {
	p := o.prompt(o.yes)
	if kind == rotation.Compromised {
		return p.typed(fmt.Sprintf("This breaks connections. Type the Signer's name (%s) to go on:", name), name)
	}
	return p.confirm(fmt.Sprintf("Replace the %s of Signer %s?", kind, name))
}

func (c *cli) rotator() (*rotation.Rotator, error) {
	k, err := c.client()
	if err != nil {
		return nil, err
	}
	return &rotation.Rotator{Client: k, Clock: c.clock}, nil
}
